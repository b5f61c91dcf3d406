"""Every layer that has a twin gives what its twin gives, also with settings that are not the usual ones."""

from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.bridge.imports import guests
from kdfuse.bridge.to_tf_keras import to_tf_keras
from kdfuse.bridge.translate import NoTwin, copy_weights, keras_own, translate

L = keras.layers
LINE, SERIES, IMAGE, VOLUME, TOKENS = (6,), (8, 6), (8, 8, 4), (6, 6, 6, 2), (7,)

CASES: list[tuple[tuple[int, ...], Any]] = [
    (LINE, L.Dense(3, "relu")), (LINE, L.Dense(3, use_bias=False)), (LINE, L.Dense(3, "gelu")), (LINE, L.Dense(3, "hard_sigmoid")),
    (LINE, L.Dense(3, "elu")), (LINE, L.Dense(3, keras.activations.relu6)), 
    (SERIES, L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d")),
    (TOKENS, L.Embedding(5, 3)), (SERIES, L.Conv1D(4, 3, padding="causal", dilation_rate=2)), (SERIES, L.Conv1D(4, 3, strides=2)),
    (IMAGE, L.Conv2D(6, 3, groups=2, activation="swish")), (IMAGE, L.Conv2D(3, (3, 2), dilation_rate=2, padding="same")),
    (VOLUME, L.Conv3D(3, 2)), (SERIES, L.Conv1DTranspose(3, 2, strides=2)), (IMAGE, L.Conv2DTranspose(3, 3, strides=2, padding="same")),
    (VOLUME, L.Conv3DTranspose(2, 2)), (SERIES, L.DepthwiseConv1D(3, depth_multiplier=2)), (IMAGE, L.DepthwiseConv2D(3, strides=2)),
    (SERIES, L.SeparableConv1D(5, 3)), (IMAGE, L.SeparableConv2D(5, 3, depth_multiplier=2, activation="tanh", strides=2)),
    (IMAGE, L.BatchNormalization(epsilon=0.1)), (IMAGE, L.BatchNormalization(axis=1, scale=False)), (SERIES, L.LayerNormalization()),
    (SERIES, L.LayerNormalization(axis=(1, 2), epsilon=0.1)), (IMAGE, L.GroupNormalization(2)), (IMAGE, L.UnitNormalization(axis=1)),
    (LINE, L.Activation("softmax")), (LINE, L.Activation("softsign")), (LINE, L.Activation("hard_silu")), (LINE, L.ReLU(2.0, 0.1, 0.3)),
    (LINE, L.LeakyReLU(0.4)), (LINE, L.ELU(0.5)), (IMAGE, L.PReLU(shared_axes=[1, 2])), (IMAGE, L.Softmax(axis=1)),
    (SERIES, L.MaxPooling1D(3, 2, "same")), (IMAGE, L.MaxPooling2D(3, 2, "same")), (VOLUME, L.AveragePooling3D(2)),
    (IMAGE, L.AveragePooling2D((2, 3), padding="same")), (IMAGE, L.GlobalMaxPooling2D(keepdims=True)), (SERIES, L.GlobalAveragePooling1D()),
    (IMAGE, L.Flatten()), (IMAGE, L.Reshape((-1, 2))), (SERIES, L.Permute((2, 1))), (LINE, L.RepeatVector(3)),
    (IMAGE, L.Cropping2D(((1, 2), (0, 1)))), (IMAGE, L.ZeroPadding2D(((1, 0), (2, 1)))), (SERIES, L.UpSampling1D(2)),
    (IMAGE, L.UpSampling2D((2, 3), interpolation="bilinear")), (SERIES, L.Masking(0.0)), (LINE, L.Identity()),
    (IMAGE, L.Rescaling(0.5, -1.0)),
    (LINE, L.Dropout(0.5)), (LINE, L.GaussianNoise(0.5)), (LINE, L.Normalization(mean=2.0, variance=3.0)),
    (SERIES, L.LSTM(3, return_sequences=True)), (SERIES, L.LSTM(3, go_backwards=True, use_bias=False)), (SERIES, L.GRU(3)),
    (SERIES, L.GRU(3, reset_after=False, recurrent_activation="sigmoid")), (SERIES, L.SimpleRNN(3, "relu", unroll=True)),
    (SERIES, L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode="sum")),
    (SERIES, L.Bidirectional(L.GRU(2), backward_layer=L.LSTM(3, go_backwards=True))), (SERIES, L.TimeDistributed(L.Dense(2, "relu"))),
]  # fmt: skip


def one_layer(shape: tuple[int, ...], layer: Any) -> keras.Model:
    given = keras.Input(shape, dtype="int32" if isinstance(layer, L.Embedding) else "float32")
    fresh = type(layer).from_config(layer.get_config())
    model = keras.Model(given, fresh(given))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" not in weight.name and weight.name != "count":
            weight.assign(rng.uniform(0.2, 1.2, weight.shape) * rng.choice([-1, 1] if "variance" not in weight.name else [1], weight.shape))
    return model


@pytest.mark.parametrize("family", range(6))
def test_a_twin_gives_the_same(family: int) -> None:
    for shape, layer in CASES[family::6]:
        model = one_layer(shape, layer)
        bridged = to_tf_keras(model)
        assert bridged.difference <= 1e-6, (layer, bridged.difference)
        assert bridged.parameters == sum(int(np.prod(weight.shape)) for weight in model.layers[-1].weights), layer


def test_a_separable_convolution_becomes_the_two_that_it_is() -> None:
    model = one_layer(IMAGE, L.SeparableConv2D(5, 3, activation="relu"))
    twins, after = translate(model.layers[-1], "sep")
    assert [type(twin).__name__ for twin in twins] == ["DepthwiseConv2D", "Conv2D"] and after is None
    assert [twin.name for twin in twins] == ["sep_depthwise", "sep_pointwise"]


def test_an_activation_that_tfmot_does_not_take_comes_after_the_layer() -> None:
    layer = one_layer(LINE, L.Dense(2, "selu")).layers[-1]
    (twin,), after = translate(layer, "dense")
    assert twin.activation is guests().tf_keras.activations.linear and after is keras.activations.selu


@pytest.mark.parametrize(
    ("shape", "layer", "why"),
    [(SERIES, L.LSTM(3, recurrent_activation="hard_sigmoid"), "hard_sigmoid"), (SERIES, L.LSTM(3, activation="gelu"), "gelu"),
     (LINE, L.RMSNormalization(), "no layer that tf_keras has"), (SERIES, L.GRU(3, stateful=True), "stateful")],
)  # fmt: skip
def test_what_has_no_twin_says_why(shape: tuple[int, ...], layer: Any, why: str) -> None:
    given = keras.Input(shape, batch_size=2)
    layer(given)
    with pytest.raises(NoTwin, match=why):
        translate(layer, "layer")


def test_a_layer_of_the_users_own_is_not_taken_for_that_of_keras() -> None:
    class Dense(L.Dense):
        def call(self, inputs: Any) -> Any:
            return super().call(inputs) + 1.0

    layer = Dense(2)
    layer.build((None, 3))
    assert not keras_own(layer) and keras_own(L.Dense(2))
    with pytest.raises(NoTwin):
        translate(layer, "dense")


def test_weights_of_another_shape_are_refused() -> None:
    layer, other = L.Dense(2), guests().tf_keras.layers.Dense(3)
    layer.build((None, 4))
    other.build((None, 4))
    with pytest.raises(NoTwin, match="other weights"):
        copy_weights(layer, [other])
