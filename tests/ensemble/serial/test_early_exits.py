"""EarlyExits on real digits."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.ensemble.serial.early_exits import EarlyExits
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.graph.macs import count_macs
from kdfuse.train import Train

L = keras.layers
DIGITS = load("digits", labels=600)
X, Y, _ = DIGITS.test.head(300)
FAST = Train(epochs=6, learning_rate=0.01, checkpoint=0)


def net():
    keras.utils.set_random_seed(0)
    given = keras.Input(DIGITS.input_shape)
    x = L.MaxPooling2D(name="pool")(L.Conv2D(8, 3, padding="same", activation="relu", name="conv")(given))
    x = L.Conv2D(48, 3, padding="same", activation="relu", name="large")(x)
    return keras.Model(given, L.Dense(10, name="head")(L.Flatten(name="flat")(x)))


@pytest.fixture(scope="module")
def made():
    given = net()
    before = fingerprint(given)
    model, report = EarlyExits(("pool",), training=FAST, tolerance=0.05)(given, DIGITS)
    assert fingerprint(given) == before
    return model, report


def test_rows_leave_where_they_are_sure_and_cost_less(made):
    _, report = made
    first, last = report.tables["stages"]
    assert first["macs"] + last["macs"] == count_macs(net()) + 8 * 10 and first["model"] == "pool"
    assert 0 < first["leave on test"] < 1
    assert report.metrics["cost/macs"] == pytest.approx(first["macs"] + last["leave on test"] * last["macs"])
    assert report.metrics["cascade/macs_share"] == pytest.approx(report.metrics["cost/macs"] / (first["macs"] + last["macs"]))
    rows = {row["model"]: row for row in report.rows()}
    assert set(rows) == {"exits", "whole", "before"}
    assert rows["exits"]["validation/accuracy"] >= rows["whole"]["validation/accuracy"] - 0.05 - 1e-9
    right = sum(row["leave on test"] * row["right of them"] for row in report.tables["stages"])
    assert report["test/accuracy"] == pytest.approx(right, abs=1e-6)
    assert any(name.startswith("train/") for name in report.history)


def test_it_is_one_model_in_one_file(made, tmp_path):
    model, _ = made
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", X[:60])
    code = "import kdfuse, keras, numpy as np; np.save('y.npy', keras.models.load_model('m.keras')(np.load('x.npy')))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(X[:60]), atol=1e-6)
    np.testing.assert_allclose(np.asarray(model(X)).sum(-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_settings_change_the_result(made):
    found = {"made": made[1].metrics["cost/macs"]}
    for name, changes in {
        "strict": {"tolerance": 0.0}, "cheap": {"tolerance": 0.0, "target": "cost", "cost": 0.5}, "margin": {"confidence": "margin"},
        "weights": {"weights": (2.0,)}, "raw": {"calibrate": False},
    }.items():  # fmt: skip
        technique = EarlyExits(**{"at": ("pool",), "training": FAST, "tolerance": 0.05, **changes})
        _, report = technique(net(), DIGITS)
        found[name] = report.metrics["cost/macs"] + report.metrics["test/log_loss"]
    assert len(set(found.values())) == len(found), found


def test_what_cannot_be_is_said_before():
    for wrong in ({"at": ()}, {"at": ("a", "a")}, {"at": ("a",), "weights": (1.0, 2.0)}, {"at": ("a",), "weights": (0,)},
                  {"at": ("a",), "confidence": "x"}, {"at": ("a",), "target": "x"}, {"at": ("a",), "calibrate": 1}):  # fmt: skip
        with pytest.raises(ValueError, match=f"`{list(wrong)[-1]}`"):
            EarlyExits(**wrong)
    with pytest.raises(ValueError, match="`at`: expected names of layers"):
        EarlyExits(("nowhere",))(net(), DIGITS)
    x, y, _ = DIGITS.train.head(50)
    with pytest.raises(ValueError, match="`data` of EarlyExits: expected a validation split"):
        EarlyExits(("pool",))(net(), DIGITS.with_splits(validation=None))
    stream = Data(tf.data.Dataset.from_tensor_slices((x, y)).batch(10), validation=(x, y), class_names=[str(one) for one in range(10)])
    with pytest.raises(ValueError, match="`data` of EarlyExits: expected arrays"):
        EarlyExits(("pool",))(net(), stream)
