"""The contract of the bridge: kdfuse's own builders, and the models of keras.applications."""

from typing import Any

import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.bridge import to_tf_keras as module
from kdfuse.bridge.to_tf_keras import random_inputs, to_tf_keras


def settle_statistics(model: keras.Model) -> None:
    """BatchNorm statistics as a trained model has them: away from 0 and 1."""
    rng = np.random.default_rng(1)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape) * 0.3)
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet"])
def test_builders_of_kdfuse_cross(name: str) -> None:
    model = getattr(kf.models, name)(kf.datasets.load("digits"))
    settle_statistics(model)
    bridged = to_tf_keras(model, example=kf.datasets.load("digits").example(4))
    assert bridged.difference <= 1e-6 and bridged.opaque == () and bridged.parameters == model.count_params()


@pytest.mark.parametrize("name", ["recurrent", "transformer"])
def test_builders_of_sequences_cross(name: str) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 20, (64, 9)).astype("int32")
    ids[:, 6:] = 0
    data = kf.Data(train=(ids, rng.integers(0, 3, 64)), validation=(ids[:8], rng.integers(0, 3, 8)))
    model = getattr(kf.models, name)(data)
    bridged = to_tf_keras(model, example=ids[:4])
    assert bridged.difference <= 1e-6 and bridged.parameters == model.count_params()


def test_it_tests_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    given = keras.Input((3,))
    model = keras.Model(given, keras.layers.Dense(2)(given))
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="gives other values after the bridge"):
        to_tf_keras(model)
    monkeypatch.undo()
    monkeypatch.setattr(module, "_used", lambda graph: [])
    with pytest.raises(ValueError, match="has 0 parameters, and 8"):
        to_tf_keras(model)


def test_opaque_must_be_names() -> None:
    given = keras.Input((3,))
    with pytest.raises(ValueError, match=r"`opaque`.*Give \('dense',\)"):
        to_tf_keras(keras.Model(given, keras.layers.Dense(2)(given)), opaque="dense")


def test_random_inputs_have_the_structure_of_the_model() -> None:
    a, b = keras.Input((None, 3), name="a"), keras.Input((2,), dtype="int32", name="b")
    found = random_inputs(keras.Model({"a": a, "b": b}, a * 2.0))
    assert found["a"].shape == (2, 8, 3) and found["b"].dtype == "int32" and set(np.unique(found["b"])) <= {0, 1}


APPLICATIONS: dict[str, dict[str, Any]] = {
    "MobileNet": {}, "MobileNetV2": {}, "MobileNetV3Small": {}, "EfficientNetB0": {}, "ResNet50": {}, "ResNet50V2": {}, "DenseNet121": {},
    "VGG16": {}, "InceptionV3": {"size": 96}, "Xception": {"size": 96},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_cross(name: str) -> None:
    size = APPLICATIONS[name].get("size", 64)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    settle_statistics(model)
    bridged = to_tf_keras(model, example=np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32"))
    assert bridged.difference <= 1e-6 and bridged.opaque == () and bridged.parameters == model.count_params()
