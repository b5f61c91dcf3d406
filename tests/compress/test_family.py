"""The techniques of the room together: in a chain and under a teacher."""

import dataclasses

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
@pytest.mark.parametrize("name", STEPS)
def test_each_trains_under_a_teacher(data, mlp, name):
    technique = dataclasses.replace(STEPS[name], training=kf.Distill(mlp, training=FAST))
    small, report = technique(kf.models.mlp(data, units=(16,), seed=1), data)
    assert "train/soft_targets_loss" in report.history and np.isfinite(report.history["train/soft_targets_loss"]).all()
    assert type(small).__module__.startswith("keras.")
