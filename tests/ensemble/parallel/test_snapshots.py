"""Snapshots: the weights at the ends of cycles against a loop in NumPy, resume, what is refused."""

import keras
import numpy as np
import pytest

from kdfuse.datasets.load import load
from kdfuse.distill.distill import Distill
from kdfuse.ensemble.combiners.geometric_mean import GeometricMean
from kdfuse.ensemble.combiners.weighted import Weighted
from kdfuse.ensemble.parallel import snapshots
from kdfuse.ensemble.parallel.snapshots import Snapshots
from kdfuse.fitting.stopping import Stopping
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.train import Train

DIGITS = load("digits", labels=120)
SGD = Train(epochs=4, batch_size=40, optimizer="sgd", learning_rate=0.5, seed=2)


@pytest.fixture(autouse=True)
def only_quality(monkeypatch):
    for name in ("timed", "size"):  # neither is what these tests are about
        monkeypatch.setattr(f"kdfuse.measure.measure.{name}", lambda *given: {})


@pytest.fixture(scope="module")
def given():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(DIGITS.input_shape), keras.layers.Flatten(), keras.layers.Dense(10)], name="net")


def members_of(model):
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def by_hand(model, cycles):
    """Huang et al., equation 2, with SGD on a softmax regression: the weights at the end of each cycle."""
    kernel, bias = (one.astype("float64") for one in model.get_weights())
    x, y = DIGITS.train.x.reshape(120, -1).astype("float64"), np.eye(10)[DIGITS.train.y]
    found, step, total = [], 0, 12
    for epoch in range(4):
        order = np.random.default_rng([2, epoch]).permutation(120)
        for rows in order.reshape(3, 40):
            length = total // cycles
            rate = 0.5 / 2 * (np.cos(np.pi * (step % length) / length) + 1)
            logits = x[rows] @ kernel + bias
            chances = np.exp(logits - logits.max(1, keepdims=True))
            error = (chances / chances.sum(1, keepdims=True) - y[rows]) / 40
            kernel, bias, step = kernel - rate * x[rows].T @ error, bias - rate * error.sum(0), step + 1
        if (epoch + 1) % (4 // cycles) == 0:
            found.append((kernel, bias))
    return found


def test_the_members_are_the_ends_of_the_cycles(given):
    before, cycles = fingerprint(given), 4
    model, report = Snapshots(cycles, training=SGD)(given, DIGITS)
    assert fingerprint(given) == before and len(report.history["train/loss"]) == 4
    for one, wanted in zip(members_of(model), by_hand(given, cycles), strict=True):
        for weight, expected in zip(one.get_weights(), wanted, strict=True):
            np.testing.assert_allclose(weight, expected, atol=1e-5)
    x = DIGITS.example(10)
    chances = np.mean([keras.ops.softmax(one(x)) for one in members_of(model)], axis=0)
    np.testing.assert_allclose(model(x), chances, atol=1e-6)
    assert [row["model"] for row in report.rows()] == ["ensemble", *(f"cycle_{place + 1}" for place in range(cycles))]


def test_an_interrupted_run_goes_on_with_its_snapshots(given, monkeypatch):
    kept = snapshots._Keep.on_epoch_end

    def interrupted(self, epoch, logs=None):
        kept(self, epoch, logs)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(snapshots._Keep, "on_epoch_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Snapshots(2, training=SGD)(given, DIGITS)
    monkeypatch.setattr(snapshots._Keep, "on_epoch_end", kept)
    model, report = Snapshots(2, training=SGD)(given, DIGITS)
    assert "Resumed at epoch 3 of 4." in report.notes
    for one, wanted in zip(members_of(model), by_hand(given, 2), strict=True):
        np.testing.assert_allclose(one.get_weights()[0], wanted[0], atol=1e-5)


def test_under_a_teacher_and_with_another_combiner(given):
    result = Snapshots(2, combiner=GeometricMean(), training=Distill(given, training=SGD)).apply(given, DIGITS)
    members, x = members_of(result.model), DIGITS.example(10)
    wanted = keras.ops.softmax(np.mean([one(x) for one in members], axis=0))
    np.testing.assert_allclose(result.model(x), wanted, atol=1e-6)
    assert not np.allclose(members[0].get_weights()[0], by_hand(given, 2)[0][0], atol=1e-3)


def test_what_is_refused(given):
    for wrong, said in (
        ({"cycles": 1}, "`cycles`"),
        ({"cycles": 3, "training": SGD}, "`cycles`: expected a divisor of the training's 4 epochs"),
        ({"training": Train(decay="cosine")}, "`training` of Snapshots.*decay='cosine'"),
        ({"training": Train(stopping=Stopping())}, "`training` of Snapshots.*`stopping`"),
    ):
        with pytest.raises(ValueError, match=said):
            Snapshots(**wrong)
    for wrong, said in (({"combiner": "mean"}, "`combiner`"), ({"training": 3}, "`training`")):
        with pytest.raises(TypeError, match=said):
            Snapshots(**wrong)
    with pytest.raises(ValueError, match="`weights`: expected one for each of 2"):
        Snapshots(2, combiner=Weighted([1, 2, 3]), training=SGD)(given, DIGITS)
