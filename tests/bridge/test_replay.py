"""Graphs of all kinds cross as one flat graph; what cannot cross is named, with the ways on."""

from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.bridge.replay import graph_of, refusal
from kdfuse.bridge.to_tf_keras import to_tf_keras
from kdfuse.graph.fingerprint import fingerprint

L = keras.layers


def residual() -> keras.Model:
    given = keras.Input((8, 8, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(given)))
    x = L.Add()([x, L.Conv2D(4, 3, padding="same")(x)]) * 2.0
    return keras.Model(given, L.Dense(3)(L.GlobalAveragePooling2D()(x + x)))


def shared_and_nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, "relu", name="dense"), L.Dropout(0.2)], name="inner")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    outer = keras.Model(a, L.Dense(3, name="dense")(inner(a)), name="outer")
    x = L.Concatenate()([inner(a), inner(b), outer(b)])
    return keras.Model({"a": a, "b": b}, {"one": L.Dense(2, name="dense")(x), "two": keras.ops.mean(x, axis=1, keepdims=True)})


def attention() -> keras.Model:
    given = keras.Input((5, 8))
    x = L.LayerNormalization()(given + L.MultiHeadAttention(2, 4)(given, given, use_causal_mask=True))
    y = L.Attention()([x, x]) + L.AdditiveAttention()([x, x])
    return keras.Model(given, [L.Dense(2)(L.Flatten()(x)), L.GlobalMaxPooling1D()(y)])


def masked() -> keras.Model:
    given = keras.Input((7,), dtype="int32")
    x = L.Embedding(10, 5, mask_zero=True)(given)
    x = L.Bidirectional(L.LSTM(4, return_sequences=True))(x)
    return keras.Model(given, L.Dense(2)(L.GRU(3)(x)))


def own_mask() -> keras.Model:
    given = keras.Input((7,), dtype="int32")
    mask = keras.ops.not_equal(given, 1)
    x = L.Embedding(10, 5)(given)
    return keras.Model(given, L.GlobalAveragePooling1D()(L.LSTM(4, return_sequences=True)(x, mask=mask), mask=mask))


@pytest.mark.parametrize("build", [residual, shared_and_nested, attention, masked, own_mask])
def test_a_graph_crosses_whole(build: Any) -> None:
    model = build()
    before = fingerprint(model)
    bridged = to_tf_keras(model)
    assert bridged.difference <= 1e-6 and bridged.parameters == model.count_params() and bridged.opaque == ()
    assert fingerprint(model) == before
    assert len({layer.name for layer in bridged.model.layers}) == len(bridged.model.layers)


def test_a_mask_does_what_it_does_in_keras_3() -> None:
    for build in (masked, own_mask):
        model = build()
        bridged = to_tf_keras(model)
        ids = np.array([[3, 4, 0, 0, 0, 0, 0], [1, 2, 3, 1, 1, 5, 6], [5, 5, 5, 5, 5, 5, 5]], "int32")
        assert np.allclose(model(ids), bridged.model(ids), atol=1e-6)


def test_shared_layers_stay_shared_and_nested_ones_have_paths() -> None:
    bridged = to_tf_keras(shared_and_nested())
    assert {"inner/dense", "outer/dense", "dense"} <= set(bridged.layers)
    assert len(bridged.pairs) == 6
    assert len(bridged.layers["inner/dense"][0]._inbound_nodes) == 3


def test_training_recorded_in_the_graph_does_not_freeze_dropout() -> None:
    given = keras.Input((50,))
    bridged = to_tf_keras(keras.Model(given, L.Dropout(0.5)(given, training=False)))
    assert np.any(np.asarray(bridged.model(np.ones((2, 50), "float32"), training=True)) == 0.0)


class Own(L.Layer):
    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


def with_own() -> keras.Model:
    inner = keras.Sequential([keras.Input((4,)), Own(name="mine"), L.Dense(3)], name="inner")
    given = keras.Input((4,))
    return keras.Model(given, L.RMSNormalization(name="rms")(inner(given)))


def test_an_unknown_layer_is_named_with_the_ways_on() -> None:
    with pytest.raises(ValueError, match=r"'inner/mine' of class Own.*opaque=.*Prune and Shrink.*Quantize"):
        to_tf_keras(with_own())
    with pytest.raises(ValueError, match=r"'rms' of class RMSNormalization\(.*epsilon=1e-06"):
        to_tf_keras(with_own(), opaque=("mine",))


def test_named_and_automatic_opaque_layers() -> None:
    assert to_tf_keras(with_own(), opaque=("inner/mine", "rms")).opaque == ("inner/mine", "rms")
    found = to_tf_keras(with_own(), opaque="auto")
    assert found.opaque == ("rms",) and len(found.notes) == 2 and "in float" in found.notes[0]
    with pytest.raises(ValueError, match=r"`opaque`.*\['nobody'\]"):
        to_tf_keras(with_own(), opaque=("mine", "rms", "nobody"))


def test_a_nested_model_can_be_opaque_as_a_whole() -> None:
    model = with_own()
    found = to_tf_keras(model, opaque=("inner", "rms"))
    assert found.opaque == ("inner", "rms") and found.parameters == model.count_params()


class Subclassed(keras.Model):
    def call(self, inputs: Any) -> Any:
        return inputs


def test_models_without_a_graph_are_refused() -> None:
    with pytest.raises(ValueError, match="'sub' of class Subclassed.*without a graph"):
        to_tf_keras(Subclassed(name="sub"))
    with pytest.raises(ValueError, match="not built"):
        graph_of(keras.Sequential([L.Dense(2)]))
    with pytest.raises(TypeError, match="expected a keras.Model"):
        to_tf_keras(L.Dense(2))  # type: ignore[arg-type]


def test_other_precision_is_refused() -> None:
    given = keras.Input((3,))
    with pytest.raises(ValueError, match="computes in float16"):
        to_tf_keras(keras.Model(given, L.Dense(2, dtype="mixed_float16", name="half")(given)))


def test_a_refusal_shows_the_settings() -> None:
    assert "Dense(units=2, activation='linear'" in refusal("a/b", L.Dense(2), "has no twin")


def test_an_output_that_is_an_input_goes_through() -> None:
    given = keras.Input((3,))
    assert to_tf_keras(keras.Model(given, [given, L.Dense(2)(given)])).difference <= 1e-6
