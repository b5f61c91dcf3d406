"""Which layers are annotated, and how."""

from typing import Any

import keras
import pytest

from kdfuse.bridge.annotate import Kept, annotate, kind_of
from kdfuse.bridge.configs import scope
from kdfuse.bridge.to_tf_keras import to_tf_keras

L = keras.layers


def annotated(outputs: Any, given: Any, kept: Any = None, skip: Any = ()) -> tuple[dict[str, str], dict[str, str]]:
    """By layer name what its config is: that of TFMOT, ours, or none."""
    with scope():
        model, left = annotate(to_tf_keras(keras.Model(given, outputs), "auto").model, kept or {}, frozenset(skip))
    found = {}
    for layer in model.layers:
        if type(layer).__name__ == "QuantizeAnnotate":
            config = layer.quantize_config
            found[layer.layer.name] = (
                "tfmot" if config is None else type(config).__name__.replace("Default8Bit", "").replace("QuantizeConfig", "")
            )
    return found, left


def test_batch_norm_is_left_to_tfmot_only_where_it_folds() -> None:
    given = keras.Input((8, 8, 2))
    x = L.BatchNormalization(name="first")(given)
    x = L.BatchNormalization(name="folds")(L.Conv2D(2, 3, name="conv")(x))
    y = L.Conv2D(2, 3, name="twice", padding="same")(x)
    x = L.Add(name="add")([y, L.BatchNormalization(name="beside")(y)])
    x = L.BatchNormalization(name="after_relu")(L.Conv2D(2, 3, activation="relu", name="relu")(x))
    x = L.BatchNormalization(name="after_dense")(L.Dense(2, name="dense")(x))
    found, left = annotated(x, given)
    assert found == {
        "first": "Output", "conv": "tfmot", "folds": "tfmot", "twice": "tfmot", "add": "tfmot", "beside": "Output", "relu": "tfmot",
        "after_relu": "Output", "dense": "tfmot", "after_dense": "Output",
    }  # fmt: skip
    assert left == {}


def test_what_tfmot_does_not_know_is_told() -> None:
    given = keras.Input((8, 4))
    x = L.Rescaling(2.0, name="rescaling")(given)
    x = L.Conv1D(4, 3, name="conv")(x)
    x = L.LayerNormalization(name="norm")(x)
    x = L.PReLU(name="prelu")(L.ELU(name="elu")(x))
    x = L.Multiply(name="times")([x, L.Dense(4, "gelu", name="gate")(x)])
    x = L.Dense(2, name="head")(L.Dropout(0.5, name="dropout")(L.Flatten(name="flat")(L.Activation("hard_sigmoid", name="hard")(x))))
    found, left = annotated(x, given)
    assert found == {
        "rescaling": "Output", "conv": "KernelConfig", "norm": "Output", "elu": "Output", "prelu": "Output", "gate": "tfmot",
        "gate_gelu": "Output", "times": "Output", "hard": "Output", "flat": "tfmot", "head": "tfmot",
    }  # fmt: skip
    assert left == {}


def test_what_stays_in_float_is_named() -> None:
    given = keras.Input((8, 4))
    x = L.RMSNormalization(name="rms")(L.MultiHeadAttention(2, 2, name="attention")(given, given))
    found, left = annotated(L.Dense(2, name="head")(L.LSTM(3, name="lstm")(x)), given, skip=("head",))
    assert found == {}
    assert left == {"attention": "MultiHeadAttention", "rms": "RMSNormalization", "lstm": "LSTM", "head": "Dense"}


@pytest.mark.parametrize(("relu", "norm"), [(True, "NoOp"), (False, "Output")])
def test_a_kernel_with_clusters_gets_a_config_of_its_own(relu: bool, norm: str) -> None:
    given = keras.Input((8, 8, 2))
    x = L.BatchNormalization(name="norm")(L.Conv2D(2, 3, name="conv")(given))
    x = L.ReLU(name="relu")(x) if relu else L.Flatten(name="relu")(x)
    found, _ = annotated(x, given, {"conv": Kept(clusters=True, sparsity=True)})
    assert found == {"conv": "KernelConfig", "norm": norm, "relu": "tfmot"}


def test_the_kind_of_an_opaque_layer_is_that_of_what_it_runs() -> None:
    given = keras.Input((3,))
    model = to_tf_keras(keras.Model(given, L.Dropout(0.1, name="drop")(L.Dense(2, name="dense")(given)))).model
    assert [kind_of(layer) for layer in model.layers] == ["InputLayer", "Dense", "Dropout"]
