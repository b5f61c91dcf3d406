import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.graph.follow import describe, follow

layers, ops = keras.layers, keras.ops
RNG = np.random.default_rng(1)


def around(middle, *shape, units=8):
    i = keras.Input(shape)
    x = middle(layers.Dense(units, name="before")(i))
    return keras.Model(i, layers.Dense(2)(layers.Flatten()(x))), RNG.normal(size=(2, *shape)).astype("float32")


FOLLOWED = {
    "activations": (lambda x: ops.silu(layers.ELU()(layers.LeakyReLU()(layers.Activation("tanh")(x)))), (4, 3)),
    "softmax over steps": (lambda x: layers.Softmax(axis=1)(x), (4, 3)),
    "dropouts": (lambda x: layers.SpatialDropout1D(0.1)(layers.Dropout(0.1, noise_shape=(None, 4, 1))(x)), (4, 3)),
    "rescaling": (lambda x: layers.Rescaling(2.0, 1.0)(x), (4, 3)),
    "pooling": (lambda x: layers.AveragePooling2D(2)(layers.MaxPooling2D(1)(layers.ZeroPadding2D(1)(x))), (4, 4, 3)),
    "flattened and back": (lambda x: layers.Conv1D(4, 2)(layers.Reshape((4, 8))(layers.Flatten()(x))), (4, 3)),
    "turned": (lambda x: ops.transpose(layers.Permute((2, 1))(x), (0, 2, 1)), (4, 3)),
    "repeated": (lambda x: layers.RepeatVector(3)(x), (3,)),
    "statistics over steps": (lambda x: ops.mean(x, axis=1) - ops.squeeze(ops.max(x, axis=1, keepdims=True), 1), (4, 3)),
    "more axes": (lambda x: ops.expand_dims(x, 1) * 2.0, (4, 3)),
    "items": (lambda x: layers.Concatenate()([x[:, 0], x[:, -1, :], x[:, 1:3][:, 0, None][..., 0, :]]), (4, 3)),
    "join over steps": (lambda x: layers.Concatenate(axis=1)([x, layers.Dense(8)(x)]), (4, 3)),
    "merging": (lambda x: layers.Maximum()([x, layers.Dense(8)(x)]) - layers.Average()([x, x]) / 2.0, (4, 3)),
    "one for all channels": (lambda x: x * layers.Dense(1, "sigmoid")(x) + np.ones((4, 1), "float32"), (4, 3)),
    "shuffle": (lambda x: layers.Reshape((4, 8))(layers.Permute((1, 3, 2))(layers.Reshape((4, 2, 4))(x))), (4, 3)),
    "image from units": (lambda x: layers.Conv2D(3, 1)(layers.Reshape((2, 2, 2))(x)), (3,)),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLLOWED)
def test_followed(case, oracle):
    middle, shape = FOLLOWED[case]
    keras.utils.set_random_seed(0)
    small = oracle(*around(middle, *shape))
    assert small.get_layer("before").units == 4 and describe(oracle.channels)[0]["protected"] == ""


def test_channels_first(oracle):
    try:
        layers.Conv2D(1, 1, data_format="channels_first")(np.zeros((1, 2, 3, 3), "float32"))
    except tf.errors.UnimplementedError:
        pytest.skip("TensorFlow has no convolution with channels first on this CPU")
    i = keras.Input((3, 5, 6))  # not as wide as there are filters: Keras 3.15 then adds a bias along the wrong axis
    x = layers.Conv2D(8, 1, data_format="channels_first", name="before")(i)
    x = layers.GlobalAveragePooling2D(data_format="channels_first", keepdims=True)(layers.BatchNormalization(axis=1)(x)) * x
    made = keras.Model(i, layers.Dense(2)(layers.Flatten(data_format="channels_first")(x)))
    assert oracle(made, RNG.normal(size=(2, 3, 5, 6)).astype("float32")).get_layer("before").filters == 4


STAY = {
    "softmax": (lambda x: layers.Softmax()(x), "mixes channels"),
    "activation": (lambda x: layers.Activation("softmax")(x), "mixes channels"),
    "layer norm": (lambda x: layers.LayerNormalization()(x), "its statistics would change"),
    "a scale for each": (lambda x: layers.Rescaling([1.0] * 8)(x), "a number for each channel"),
    "a constant for each": (lambda x: x + np.ones(8, "float32"), "not followed"),
    "noise of a shape": (lambda x: layers.Dropout(0.1, noise_shape=(None, 1, 8))(x), "noise_shape"),
    "mean over channels": (lambda x: ops.mean(x, axis=-1, keepdims=True), "mixes channels"),
    "some by number": (lambda x: x[..., :4], "some channels by number"),
    "pooling along channels": (lambda x: layers.MaxPooling1D(2)(layers.Permute((2, 1))(x)), "along the channels"),
    "different axes": (
        lambda x: layers.Add()([layers.Permute((2, 1))(x), layers.Dense(4)(layers.RepeatVector(8)(x[:, 0]))]),
        "along different axes",
    ),
    "own layer": (lambda x: layers.Lambda(lambda t: t * 2, name="twice")(x), "layers of its kind are not followed"),
    "operation": (lambda x: ops.cumsum(x, axis=1), "layers of its kind are not followed"),
}


@pytest.mark.parametrize("case", STAY)
def test_what_is_not_followed_stays_and_says_why(case):
    middle, why = STAY[case]
    made, _ = around(middle, 4, 3)
    row = next(row for row in describe(follow(made)) if row["layer"] == "before")
    assert why in row["protected"] and row["units"] == 8
