import keras
import numpy as np
import pytest

from kdfuse.graph.follow import follow
from kdfuse.graph.rebuild import count_parameters, reading, rebuild, silence_channels

layers = keras.layers
X = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype("float32")


def mlp():
    i = keras.Input((8,))
    return keras.Model(i, layers.Dense(3)(layers.Dense(10, "tanh")(layers.Dense(12, "relu")(i))), name="mlp"), X[:, 0, :, 0]


def residual():
    i = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(i)))
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(x)))
        y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(y))
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(i, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)), name="residual"), X


def dense_net():
    i = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same")(i)
    for _ in range(3):
        x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))])
    x = layers.Dense(10, "relu")(layers.Flatten()(layers.MaxPooling2D()(x)))
    return keras.Model(i, layers.Dense(4)(x), name="dense_net"), X


def separable():
    i = keras.Input((8, 8, 3))
    x = layers.SeparableConv2D(8, 3, depth_multiplier=2, activation="relu")(i)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x))
    x = layers.SeparableConv2D(6, 3)(layers.PReLU(shared_axes=[1, 2])(x))
    x = layers.Cropping2D()(layers.ZeroPadding2D(2)(layers.UpSampling2D()(layers.PReLU()(x))))
    return keras.Model(i, layers.Dense(4)(layers.Flatten()(layers.Conv2DTranspose(5, 3, strides=2)(x))), name="separable"), X


def squeeze_excite():
    i = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3)(i)
    g = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(4, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(x)))
    x = layers.Multiply()([x, g])
    x = x * layers.Reshape((1, 1, 8))(layers.Dense(8, "sigmoid")(keras.ops.mean(x, axis=[1, 2]))) + 1.0
    x = x * layers.Conv2D(1, 1, activation="sigmoid")(x)
    return keras.Model(i, layers.Dense(4)(keras.ops.reshape(x, (-1, 288))), name="squeeze_excite"), X


def several_outputs():
    i = keras.Input((8,))
    trunk = layers.Dense(12, "relu")(i)
    both = {"digit": layers.Dense(3)(layers.Dense(8, "relu")(trunk)), "parity": layers.Dense(1, "sigmoid")(trunk)}
    return keras.Model({"image": i}, both, name="several_outputs"), {"image": X[:, 0, :, 0]}


def nested_and_shared():
    j = keras.Input((8,))
    shared = layers.Dense(8, "relu")
    y = shared(shared(j))
    inner = keras.Model(j, [y, layers.Dense(6)(y)], name="inner")
    i = keras.Input((8,))
    a, b = inner(layers.Dense(8, "relu")(i))
    c, d = inner(a)
    stack = keras.Sequential([layers.Dense(7, "relu"), layers.Dropout(0.2), keras.Sequential([layers.Dense(6, "tanh")])], name="stack")
    return keras.Model(i, [layers.Dense(3)(stack(layers.Concatenate()([c, b, d]))), layers.Dense(2)(d)], name="nested"), X[:, 0, :, 0]


SMALL = (mlp, residual, dense_net, separable, squeeze_excite, several_outputs, nested_and_shared)


@pytest.mark.parametrize("build", SMALL)
def test_the_small_model_is_the_large_one_without_what_read_the_removed_channels(build, oracle, tmp_path):
    keras.utils.set_random_seed(0)
    model, x = build()
    small = oracle(model, x)
    assert small.count_params() < 0.65 * model.count_params()
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers] and small.name == model.name
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    for a, b in zip(keras.tree.flatten(small(x)), keras.tree.flatten(again(x)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_no_two_draws_and_no_share_differ_from_the_oracle(oracle):
    for seed in range(3):
        oracle(residual()[0], X, keep=(0.3, 0.7, 0.9)[seed], seed=seed)


def test_a_stack_stays_a_stack_and_flags_and_functions_stay(oracle):
    def doubled(x):
        return 2 * keras.ops.relu(x)

    stack = keras.Sequential([keras.Input((8,)), layers.Dense(6, doubled, name="a"), layers.Dropout(0.1), layers.Dense(6), layers.Dense(2)])
    stack.get_layer("a").trainable = False
    stack.get_layer("a").note = "mine"
    small = oracle(stack, X[:, 0, :, 0])
    assert isinstance(small, keras.Sequential) and small.get_layer("a").activation is doubled and not small.get_layer("a").trainable
    assert small.get_layer("a").units == 3 and len(small.trainable_weights) == 4


def test_protected_channels_and_empty_layers_are_refused():
    model, _ = mlp()
    channels = follow(model)
    first, _, last = (member.slots["out"] for member in channels.members.values())
    with pytest.raises(ValueError, match="stays, for it is an output of the model"):
        rebuild(model, channels, [int(last[0])])
    with pytest.raises(ValueError, match="at least one channel to stay"):
        rebuild(model, channels, first.tolist())


def test_what_reads_and_what_is_silent():
    model, _ = mlp()
    channels = follow(model)
    gone = next(iter(channels.members.values())).slots["out"][:4].tolist()
    assert [weight.variable.path for weight, _ in reading(channels)] == [layer.kernel.path for layer in model.layers[1:]]
    silence_channels(model, channels, gone)
    assert (
        not model.layers[2].kernel.numpy()[:4].any() and model.layers[2].kernel.numpy()[4:].all() and model.layers[1].kernel.numpy().all()
    )
    assert count_parameters(model, channels, gone) == model.count_params() - 4 * (8 + 1 + 10)


APPLICATIONS = {
    "MobileNet": 32, "MobileNetV2": 32, "MobileNetV3Small": 32, "EfficientNetB0": 32, "ResNet50": 32, "ResNet50V2": 32, "DenseNet121": 32,
    "VGG16": 32, "InceptionV3": 75, "Xception": 71,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(name, oracle):
    size = APPLICATIONS[name]
    model = getattr(keras.applications, name)(input_shape=(size, size, 3), weights=None, classes=10)
    x = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype("float32")
    assert oracle(model, x).count_params() <= 0.55 * model.count_params()


def test_mobile_net(oracle):
    model = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=10)
    assert (
        oracle(model, np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype("float32")).count_params() <= 0.55 * model.count_params()
    )
