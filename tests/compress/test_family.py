"""The techniques of the room together: in a chain, under a teacher, on models of several kinds."""

import itertools

import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.export.lite_model import LiteModel

FAST = kf.Train(epochs=1, batch_size=64, learning_rate=1e-3)
STEPS = {
    "Prune": kf.Prune(0.5, training=FAST),
    "Shrink": kf.Shrink(keep=0.5, training=FAST),
    "Grow": kf.Grow(1.5, training=FAST),
    "Cluster": kf.Cluster(16, training=FAST),
    "QuantizeAware": kf.QuantizeAware(training=FAST),
    "Quantize": kf.Quantize("dynamic"),
}


@pytest.fixture(scope="module")
def data():
    return kf.datasets.load("digits", labels=256)


@pytest.fixture(scope="module")
def mlp(data):
    return kf.Train(epochs=4, batch_size=64, learning_rate=3e-3).apply(kf.models.mlp(data, units=(32, 16)), data).model


def test_a_chain_keeps_zeros_values_and_bits_down_to_the_file(data, mlp):
    before = [weight.copy() for weight in mlp.get_weights()]
    chain = kf.Chain([kf.Prune(0.8, training=FAST), kf.Cluster(8, training=FAST), kf.QuantizeAware(training=FAST)])
    small, report = chain(mlp, data)
    kernels = [np.asarray(weight) for weight in small.weights if len(weight.shape) > 1]
    assert np.mean(np.concatenate([kernel.ravel() for kernel in kernels]) == 0) >= 0.79
    assert all(len(np.unique(kernel)) <= 8 for kernel in kernels)
    lite = LiteModel(report.files["tflite"])
    decided = np.argmax(lite(data.test.x), axis=-1)
    assert report.metrics["tflite/accuracy"] == pytest.approx(np.mean(decided == data.test.targets()))
    assert report.metrics["size/tflite_bytes"] == report.files["tflite"].stat().st_size
    assert [row["model"] for row in report.tables["steps"]] == ["1. Prune", "2. Cluster", "3. QuantizeAware"]
    assert report.metrics["size/huffman_bytes"] < 4 * report.metrics["size/parameters"] / 8
    assert all(np.array_equal(mine, old) for mine, old in zip(mlp.get_weights(), before, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Prune", "Shrink", "Grow", "Cluster", "QuantizeAware"])
def test_each_trains_under_a_teacher(data, mlp, name):
    import dataclasses

    technique = dataclasses.replace(STEPS[name], training=kf.Distill(mlp, training=FAST))
    small, report = technique(kf.models.mlp(data, units=(16,), seed=1), data)
    assert "train/soft_targets_loss" in report.history and np.isfinite(report.history["train/soft_targets_loss"]).all()
    assert type(small).__module__.startswith("keras.")


@pytest.mark.slow
@pytest.mark.parametrize("first, second", list(itertools.permutations(STEPS, 2)))
@pytest.mark.parametrize("kind", ["mlp", "residual", "outputs", "attention"])
def test_every_ordered_pair_runs_as_a_chain(kind, first, second):
    data, model = _case(kind)
    small, report = kf.Chain([STEPS[first], STEPS[second]])(model, data)
    figures = [value for name, value in report.metrics.items() if name.startswith("test/")]
    assert figures and np.isfinite(figures).all()
    x = data.test.head(8)[0]
    assert all(np.isfinite(np.asarray(output)).all() for output in keras.tree.flatten(small(x, training=False)))


def _case(kind):
    digits = kf.datasets.load("digits", labels=256)
    if kind == "mlp":
        return digits, kf.models.mlp(digits, units=(32, 16))
    if kind == "residual":
        return digits, kf.models.resnet(digits, filters=(8, 8, 16), blocks=1)
    inputs = keras.Input(digits.input_shape)
    if kind == "attention":
        x = keras.layers.Reshape((digits.input_shape[0], -1))(inputs)
        x = keras.layers.Dense(16, name="embed")(x)
        x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(2, 8, name="attention")(x, x)])
        x = keras.layers.GlobalAveragePooling1D()(x)
        return digits, keras.Model(inputs, keras.layers.Dense(10, name="logits")(x))
    x = keras.layers.Dense(16, activation="relu", name="shared")(keras.layers.Flatten()(inputs))
    outputs = {"digit": keras.layers.Dense(10, name="digit")(x), "even": keras.layers.Dense(2, name="even")(x)}

    def two(split):
        x, y, _ = split.head(len(split))
        return x, {"digit": np.asarray(y), "even": np.asarray(y) % 2}

    splits = {name: two(digits.split(name)) for name in ("train", "validation", "test")}
    return kf.Data(**splits), keras.Model(inputs, outputs)
