"""Cascade on real digits."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from scipy.special import softmax

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.distill.distill import Distill
from kdfuse.ensemble.parallel.parallel import Parallel
from kdfuse.ensemble.serial.cascade import Cascade
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.graph.macs import count_macs
from kdfuse.graph.trace import layer_calls
from kdfuse.recording import silence
from kdfuse.train import Train

L = keras.layers
DIGITS = load("digits", labels=400)
SHAPE = DIGITS.input_shape
X_TEST, Y_TEST, _ = DIGITS.test.head(10**6)


def net(units, seed=0, name="net"):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input(SHAPE), L.Flatten(), L.Dense(units, "relu"), L.Dense(10)], name=name)


@pytest.fixture(scope="module")
def models():
    training, rows = Train(epochs=8, learning_rate=0.003, checkpoint=0), DIGITS.with_splits(validation=None, test=None)
    return [training.apply(net(units, name=f"units_{units}"), rows).model for units in (6, 24, 160)]


def test_the_report_counts_what_was_run(models):
    before = [fingerprint(one) for one in models]
    cascade, report = Cascade(tolerance=0.02)([models[0], models[2]], DIGITS)
    rows = report.tables["stages"]
    costs = [count_macs(models[0]), count_macs(models[2])]
    assert [row["macs"] for row in rows] == costs
    share = rows[1]["leave on test"]
    assert 0 < share < 1 and report.metrics["cost/macs"] == pytest.approx(costs[0] + share * costs[1])
    assert report.metrics["cascade/macs_share"] == pytest.approx(report.metrics["cost/macs"] / costs[1])
    assert report.metrics["cascade/asked"] == report.metrics["cascade/exit_2"] == pytest.approx(share)
    assert report.metrics["cascade/exit_1"] == pytest.approx(1 - share)
    last = report.rows()[2]["validation/accuracy"]
    assert report["validation/accuracy"] >= last - 0.02 - 1e-9
    right = sum(row["leave on test"] * row["right of them"] for row in rows)
    assert report["test/accuracy"] == pytest.approx(right, abs=1e-6)
    chosen = [row for row in report.tables["thresholds"] if row["chosen"]]
    assert len(chosen) == 1 and chosen[0]["accuracy"] == pytest.approx(report["validation/accuracy"])
    assert [fingerprint(one) for one in models] == before
    assert cascade.output_shape == (None, 10)
    # Calibration before and after: the members as they were given, and the whole as it is.
    small, large, whole = report.tables["calibration"]
    for row, given in ((small, report.rows()[1]), (large, report.rows()[2])):
        assert row["log loss before"] == pytest.approx(given["test/log_loss"], rel=1e-3)
        assert row["calibration error before"] == pytest.approx(given["test/ece"], rel=1e-2)
        assert row["temperature"] != 1 and row["log loss after"] != row["log loss before"]
    assert whole["log loss after"] == pytest.approx(report["test/log_loss"], rel=1e-3)
    assert whole["calibration error after"] == pytest.approx(report["test/ece"], rel=1e-2)
    assert "calibration" not in Cascade(thresholds=(0.5,), calibrate=False).apply([models[0], models[2]], DIGITS).tables


def test_settings_change_what_is_asked(models):
    shares = {}
    settings = {
        "strict": Cascade(), "lenient": Cascade(tolerance=0.1), "cheap": Cascade(target="cost", cost=0.3),
        "margin": Cascade(confidence="margin", tolerance=0.02), "raw": Cascade(calibrate=False), "given": Cascade(thresholds=(0.5,)),
    }  # fmt: skip
    for name, technique in settings.items():
        _, report = technique([models[0], models[2]], DIGITS)
        shares[name] = (round(report.metrics["cascade/asked"], 6), round(report["test/log_loss"], 6))
        if name == "cheap":
            assert report.tables["thresholds"][-1]["macs"] <= 0.3 * count_macs(models[2]) + 1e-6
    assert len(set(shares.values())) == len(shares), shares
    assert shares["lenient"][0] < shares["strict"][0]


@pytest.fixture(scope="module")
def three(models):
    with silence():  # before the fixture of each test, which would see to it
        return Cascade(target="cost", cost=0.4, confidence="margin")(models, DIGITS)


def test_each_row_has_the_answer_of_the_stage_that_its_confidence_picks(models, three):
    cascade, report = three
    rows = report.tables["stages"]
    said = [softmax(np.asarray(model(X_TEST)) / row["temperature"], axis=-1) for model, row in zip(models, rows, strict=True)]
    want, left = said[-1].copy(), np.full(len(X_TEST), 2)
    for stage in (1, 0):
        top = np.sort(said[stage], axis=-1)
        sure = top[:, -1] - top[:, -2] >= rows[stage]["threshold"]
        want[sure], left[sure] = said[stage][sure], stage
    counts = np.bincount(left, minlength=3)
    assert (counts > 0).all()
    np.testing.assert_allclose(cascade(X_TEST), want, atol=1e-5)
    np.testing.assert_allclose(cascade.predict(X_TEST, batch_size=7, verbose=0), want, atol=1e-5)
    np.testing.assert_allclose([row["leave on test"] for row in rows], counts / len(X_TEST), atol=1e-9)
    # What each model was given to do.
    _, calls = layer_calls(cascade, X_TEST)
    seen = {call.layer.name: call.args[0].shape[0] for call in calls if call.layer.name.startswith("units_")}
    assert seen == {"units_6": len(X_TEST), "units_24": counts[1] + counts[2], "units_160": counts[2]}
    assert report.metrics["cost/macs"] == pytest.approx(sum(count_macs(one) * seen[one.name] for one in models) / len(X_TEST))


def test_one_file_elsewhere_and_as_a_teacher(models, three, tmp_path):
    cascade, _ = three
    cascade.save(tmp_path / "m.keras")
    cascade.export(tmp_path / "saved", verbose=False)
    np.save(tmp_path / "x.npy", X_TEST[:60])
    code = (
        "import kdfuse, keras, numpy as np, tensorflow as tf; x = np.load('x.npy'); "
        "np.save('y.npy', keras.models.load_model('m.keras')(x)); served = tf.saved_model.load('saved'); np.save('s.npy', served.serve(x))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    for name in ("y.npy", "s.npy"):
        np.testing.assert_allclose(np.load(tmp_path / name), cascade(X_TEST[:60]), atol=1e-6)
    nested, _ = Parallel()([cascade, models[2]], DIGITS)
    want = (np.asarray(cascade(X_TEST)) + np.asarray(keras.ops.softmax(models[2](X_TEST)))) / 2
    np.testing.assert_allclose(nested.predict(X_TEST, verbose=0), want, atol=1e-5)
    # Of a cascade among the models all of its models count.
    _, outer = Cascade(thresholds=(0.7,))([cascade, net(200)], DIGITS)
    assert outer.tables["stages"][0]["macs"] == sum(count_macs(one) for one in models)
    _, taught = Distill(cascade, training=Train(epochs=4, learning_rate=0.01))(net(8), DIGITS)
    assert taught.metrics["kd/agreement"] > 0.2


def test_binary_and_several_outputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)).astype("float32")
    labels = {"sign": (x[:, :1] + 0.3 * rng.normal(size=(300, 1)) > 0).astype(int), "which": x[:, :3].argmax(1)}

    def build(seed, units):
        keras.utils.set_random_seed(seed)
        given = keras.Input((5,))
        hidden = L.Dense(units, "relu")(given)
        return keras.Model(given, {"sign": L.Dense(1, "sigmoid", name="sign")(hidden), "which": L.Dense(3, name="which")(hidden)})

    data = Data(train=(x[:200], {k: v[:200] for k, v in labels.items()}), validation=(x[200:], {k: v[200:] for k, v in labels.items()}))
    pair = [Train(epochs=15, learning_rate=0.01).apply(build(place, 6 + 30 * place), data).model for place in (0, 1)]
    cascade, report = Cascade(thresholds=(0.7,))(pair, data)
    made = cascade(x)
    assert made["sign"].shape == (300, 1) and made["which"].shape == (300, 3)
    assert 0 < report.metrics["cascade/asked"] < 1


def test_what_cannot_be_is_said_before(models):
    pair = [models[0], models[2]]
    x, y, _ = DIGITS.train.head(100)
    without = Data(train=(x, y), class_names=[str(one) for one in range(10)])
    with pytest.raises(ValueError, match="`data` of Cascade: expected a validation split"):
        Cascade()(pair, without)
    with pytest.raises(ValueError, match="`thresholds`: expected 1, one for each model but the last. Received: 2"):
        Cascade(thresholds=(0.5, 0.5))(pair, DIGITS)
    with pytest.raises(ValueError, match="expected 2 or more models"):
        Cascade()(pair[:1], DIGITS)
    with pytest.raises(ValueError, match="`cost`: expected at least .*, the share of the first stage alone"):
        Cascade(target="cost", cost=0.001)(pair, DIGITS)
    cheap = {"target": "cost", "cost": 0.5}
    for wrong, word in (
        ({"target": "speed"}, "target"), ({"confidence": "doubt"}, "confidence"), ({"tolerance": 1.5}, "tolerance"),
        ({"cost": 0.5}, "cost"), ({"target": "cost"}, "cost"), ({**cheap, "cost": -1}, "cost"), ({**cheap, "cost": 1.1}, "cost"),
        ({**cheap, "tolerance": 0.1}, "tolerance"),
        ({"calibrate": 1}, "calibrate"), ({"thresholds": ("x",)}, "thresholds"),
        ({"thresholds": (float("nan"),)}, "thresholds"), ({"thresholds": (True,)}, "thresholds"), ({"thresholds": ()}, "thresholds"),
        ({"thresholds": (0.5,), "tolerance": 0.1}, "thresholds"), ({"thresholds": (0.5,), **cheap}, "thresholds"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"`{word}`"):
            Cascade(**wrong)
    given = keras.Input((3,))
    line = keras.Model(given, L.Dense(1)(given))
    values = Data(train=(np.ones((9, 3), "float32"), np.arange(9.0)), validation=(np.ones((9, 3), "float32"), np.arange(9.0)))
    with pytest.raises(ValueError, match="`model` of Cascade: expected classifiers"):
        Cascade()([line, line], values)
