"""EarlyExits on real digits."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.distill.distill import Distill
from kdfuse.ensemble.serial.early_exits import EarlyExits
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.graph.macs import count_macs
from kdfuse.graph.trace import layer_calls
from kdfuse.train import Train

L = keras.layers
DIGITS = load("digits", labels=600)
X, Y, _ = DIGITS.test.head(300)
FAST = Train(epochs=6, optimizer="sgd", learning_rate=0.1, steps_per_execution=1, checkpoint=0)


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
    assert report.metrics["cascade/macs_share"] == pytest.approx(report.metrics["cost/macs"] / count_macs(net()))
    rows = {row["model"]: row for row in report.rows()}
    assert set(rows) == {"exits", "whole", "before"}
    assert rows["exits"]["validation/accuracy"] >= rows["whole"]["validation/accuracy"] - 0.05 - 1e-9
    right = sum(row["leave on test"] * row["right of them"] for row in report.tables["stages"])
    assert report["test/accuracy"] == pytest.approx(right, abs=1e-6)
    assert {"train/loss", "validation/exit_1_accuracy", "validation/head_accuracy"} <= set(report.history)
    pool, output, whole = report.tables["calibration"]
    assert (pool["model"], output["model"], whole["model"]) == ("1: pool", "2: output", "exits")
    assert whole["log loss after"] == pytest.approx(report["test/log_loss"], rel=1e-3)
    assert output["log loss before"] == pytest.approx(rows["whole"]["test/log_loss"], rel=1e-3)


def test_each_row_leaves_where_its_confidence_says(made):
    model, report = made
    first = np.asarray(keras.Model(model.input, model.get_layer("sure_1").output)(X))
    features = model.get_layer("segment_1")(X)
    rest, threshold = model.get_layer("ask_2").model, report.tables["stages"][0]["threshold"]
    sure = first.max(-1) >= threshold
    assert 0 < sure.sum() < len(X)
    np.testing.assert_allclose(model(X), np.where(sure[:, None], first, rest(features)), atol=1e-5)
    _, calls = layer_calls(model, X)
    assert [call.args[0].shape[0] for call in calls if call.layer.name == "segment_2"] == [(~sure).sum()]


def test_it_is_one_model_in_one_file(made, tmp_path):
    model, _ = made
    model.save(tmp_path / "m.keras")
    # That a new process knows the layers is the matter of tests/test_registration.py.
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.keras")(X[:60]), model(X[:60]), atol=1e-6)
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


ROWS = np.random.default_rng(0).normal(size=(80, 6)).astype("float32")
YES = (ROWS[:, :1] > 0).astype(int)


def dense(compiled=None):
    keras.utils.set_random_seed(0)
    a, b = keras.Input((2,), name="zeta"), keras.Input((4,), name="alpha")
    hidden = L.Dense(5, "relu", name="hidden")(L.Concatenate()([a, b]))
    model = keras.Model({"zeta": a, "alpha": b}, L.Dense(1, "sigmoid", name="yes")(L.Dense(9, "relu")(hidden)))
    if compiled is not None:
        model.compile("sgd", compiled)
    return model


def test_inputs_by_name_one_column_and_weights():
    x = {"zeta": ROWS[:, :2], "alpha": ROWS[:, 2:]}
    weights = np.random.default_rng(1).random(80).astype("float32")
    short = dataclasses.replace(FAST, epochs=1)
    found = {}
    for name, compiled, training, split in (
        ("plain", None, short, (x, YES)),
        ("weighted", None, short, (x, YES, weights)),
        ("classes", None, dataclasses.replace(short, class_weight={0: 5.0, 1: 0.1}), (x, YES)),
        ("both", None, dataclasses.replace(short, class_weight={0: 5.0, 1: 0.1}), (x, YES, weights)),
        ("compiled", keras.losses.BinaryFocalCrossentropy(), short, (x, YES)),
        ("own", None, dataclasses.replace(short, loss=keras.losses.BinaryFocalCrossentropy()), (x, YES)),
    ):
        result = EarlyExits(("hidden",), training=training).apply(dense(compiled), Data(train=split, validation=(x, YES)))
        assert result.model(x).shape == (80, 1)
        found[name] = result.history["train/loss"][-1]
    assert found.pop("own") == pytest.approx(found["compiled"])  # the loss of the model, or that of the training
    assert len(set(found.values())) == len(found), found


def test_what_cannot_be_is_said_before():
    for wrong in ({"at": ()}, {"at": ("a", "a")}, {"at": ("a",), "weights": (1.0, 2.0)}, {"at": ("a",), "weights": (0,)},
                  {"at": ("a",), "confidence": "x"}, {"at": ("a",), "target": "x"}, {"at": ("a",), "calibrate": 1}):  # fmt: skip
        with pytest.raises(ValueError, match=f"`{list(wrong)[-1]}`"):
            EarlyExits(**wrong)
    with pytest.raises(TypeError, match="`training`: expected kdfuse.Train"):
        EarlyExits(("pool",), training=Distill(net()))
    with pytest.raises(ValueError, match="`at`: expected names of layers"):
        EarlyExits(("nowhere",))(net(), DIGITS)
    with pytest.raises(ValueError, match="`cost`: expected at least .*, the share of the first stage alone"):
        EarlyExits(("pool",), target="cost", cost=0.001)(net(), DIGITS)
    x, y, _ = DIGITS.train.head(50)
    with pytest.raises(ValueError, match="`data` of EarlyExits: expected a validation split"):
        EarlyExits(("pool",))(net(), DIGITS.with_splits(validation=None))
    stream = Data(tf.data.Dataset.from_tensor_slices((x, y)).batch(10), validation=(x, y), class_names=[str(one) for one in range(10)])
    with pytest.raises(ValueError, match="`data` of EarlyExits: expected arrays"):
        EarlyExits(("pool",))(net(), stream)
    stream = Data((x, y), validation=tf.data.Dataset.from_tensor_slices((x, y)).batch(10), class_names=[str(one) for one in range(10)])
    with pytest.raises(ValueError, match="`data` of EarlyExits: expected arrays"):
        EarlyExits(("pool",))(net(), stream)


def test_members_that_share_a_batch_are_refused():
    from kdfuse.ensemble.parallel.batch_ensemble import BatchEnsemble

    together, _ = BatchEnsemble(2, training=dataclasses.replace(FAST, epochs=1))(net(), DIGITS)
    with pytest.raises(ValueError, match="`at`: expected layers with a row for each row of the input.* 4 rows for 2"):
        EarlyExits(("pool",), training=FAST)(together, DIGITS)
