"""Temperature scaling against a fine search, and on real digits."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.ensemble.calibrate import Calibrate, temperature
from kdfuse.ensemble.predictions import Predicted
from kdfuse.train import Train

L = keras.layers
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 300)
Z = (3 * RNG.normal(size=(1, 300, 4)) + 2 * np.eye(4)[LABELS]).astype("float32")
GRID = np.exp(np.linspace(np.log(0.05), np.log(20), 4000))


@pytest.mark.parametrize("weights", [None, RNG.random(300)])
def test_classes(weights):
    losses = [np.average(-log_softmax(Z[0] / one, -1)[np.arange(300), LABELS], weights=weights) for one in GRID]
    found = temperature(Predicted("", Z, LABELS, weights, "classification", "softmax"))
    assert found == pytest.approx(GRID[np.argmin(losses)], rel=3e-3)
    one_hot = temperature(Predicted("", Z, np.eye(4)[LABELS], weights, "classification", "softmax"))
    assert one_hot == pytest.approx(found, rel=1e-4)


def test_columns():
    yes = (LABELS[:, None] == np.arange(4)).astype("float64")
    losses = [np.mean(np.logaddexp(0, np.where(yes == 1, -Z[0], Z[0]) / one)) for one in GRID]
    assert temperature(Predicted("", Z, yes, None, "multilabel", "sigmoid")) == pytest.approx(GRID[np.argmin(losses)], rel=3e-3)


def test_a_model_that_is_too_sure_becomes_as_sure_as_it_is_right():
    whole = load("digits")
    (x, y, _), rows = whole.train.head(900), slice(300, 900)
    data = whole.with_splits(train=(x[:300], y[:300]), validation=(x[rows], y[rows]))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(data.input_shape), L.Flatten(), L.Dense(64, "relu"), L.Dense(10)])
    model = Train(epochs=12, learning_rate=0.02)(model, data)[0]
    made, report = Calibrate()(model, data)
    before = next(row for row in report.rows() if row["model"] == "before")
    assert report.metrics["calibrate/temperature"] > 1
    assert report["validation/log_loss"] < before["validation/log_loss"] and report["test/log_loss"] < before["test/log_loss"]
    assert report["validation/ece"] < before["validation/ece"]
    (row,) = report.tables["calibration"]
    assert row["temperature"] == report.metrics["calibrate/temperature"]
    for text, name in (("log loss", "validation/log_loss"), ("calibration error", "validation/ece")):
        assert (row[f"{text} before"], row[f"{text} after"]) == pytest.approx((before[name], report[name]), rel=1e-3)
    bins = report.tables["reliability"]
    gap = sum(row["share"] * abs(row["accuracy"] - row["confidence"]) for row in bins)
    assert sum(row["share"] for row in bins) == pytest.approx(1) and gap == pytest.approx(report["test/ece"], rel=1e-6)
    x = x[:200]
    np.testing.assert_array_equal(np.asarray(made(x)).argmax(-1), np.asarray(model(x)).argmax(-1))
    np.testing.assert_allclose(np.asarray(made(x)).sum(-1), 1, rtol=1e-5)


def test_each_output_has_a_temperature_of_its_own(tmp_path):
    keras.utils.set_random_seed(0)
    x = RNG.normal(size=(80, 3)).astype("float32")
    labels = {"sign": (x[:, :1] > 0).astype(int), "which": x.argmax(1)}
    given = keras.Input((3,))
    model = keras.Model(given, {"sign": L.Dense(1, name="sign")(given), "which": L.Dense(3, "softmax", name="which")(given)})
    made, _ = Calibrate()(model, Data(train=(x, labels), validation=(x, labels)))
    want = {
        "sign": temperature(Predicted("", np.asarray(model(x)["sign"])[None], labels["sign"], None, "binary", "sigmoid")),
        "which": temperature(
            Predicted("", np.log(np.asarray(model(x)["which"]))[None], labels["which"], None, "classification", "softmax")
        ),
    }
    logits = np.asarray(model(x)["sign"])
    np.testing.assert_allclose(made(x)["sign"], 1 / (1 + np.exp(-logits / want["sign"])), atol=1e-5)
    grown = np.asarray(model(x)["which"]) ** (1 / want["which"])
    np.testing.assert_allclose(made(x)["which"], grown / grown.sum(-1, keepdims=True), atol=1e-5)
    made.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x)["which"], made(x)["which"])


def test_what_cannot_be_calibrated():
    given = keras.Input((3,))
    line = keras.Model(given, L.Dense(1)(given))
    x, y = np.ones((9, 3), "float32"), np.arange(9.0)
    with pytest.raises(ValueError, match="`model` of Calibrate: expected a classifier"):
        Calibrate()(line, Data(train=(x, y), validation=(x, y)))
    with pytest.raises(ValueError, match="`data` of Calibrate: expected a validation split"):
        Calibrate()(line, Data(train=(x, y)))
