"""WeightAverage: SWA and EMA against a loop in NumPy, measured statistics, resume, what is refused."""

import dataclasses

import keras
import numpy as np
import pytest

from kdfuse.datasets.load import load
from kdfuse.distill.distill import Distill
from kdfuse.ensemble.parallel.weight_average import WeightAverage
from kdfuse.fitting.stopping import Stopping
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.train import Train, Trainer

DIGITS = load("digits", labels=120)
SGD = Train(epochs=4, batch_size=40, optimizer="sgd", learning_rate=0.5, seed=2)
L = keras.layers


@pytest.fixture(autouse=True)
def only_quality(monkeypatch):
    for name in ("timed", "size"):  # neither is what these tests are about
        monkeypatch.setattr(f"kdfuse.measure.measure.{name}", lambda *given: {})


def net(norm=False):
    keras.utils.set_random_seed(0)
    middle = [L.BatchNormalization(name="norm", momentum=0.5)] if norm else []
    return keras.Sequential([keras.Input(DIGITS.input_shape), L.Flatten(), *middle, L.Dense(10)], name="net")


@pytest.fixture(scope="module")
def given():
    return net()


@pytest.fixture(scope="module")
def path(given):
    """The weights of a softmax regression after each step of SGD, `[epochs][steps]`."""
    kernel, bias = (one.astype("float64") for one in given.get_weights())
    x, y = DIGITS.train.x.reshape(120, -1).astype("float64"), np.eye(10)[DIGITS.train.y]
    found = []
    for epoch in range(4):
        found.append([])
        for rows in np.random.default_rng([2, epoch]).permutation(120).reshape(3, 40):
            logits = x[rows] @ kernel + bias
            chances = np.exp(logits - logits.max(1, keepdims=True))
            error = (chances / chances.sum(1, keepdims=True) - y[rows]) / 40
            kernel, bias = kernel - 0.5 * x[rows].T @ error, bias - 0.5 * error.sum(0)
            found[-1].append((kernel, bias))
    return found


def ema(steps, decay):
    """The bias-corrected exponential moving average, from its sum: weights (1 - d) d^(T - t) over 1 - d^T."""
    shares = (1 - decay) * decay ** np.arange(len(steps))[::-1]
    return [sum(share * step[part] for share, step in zip(shares, steps, strict=True)) / (1 - decay ** len(steps)) for part in (0, 1)]


def swa(path, first):
    return [np.mean([epoch[-1][part] for epoch in path[first:]], axis=0) for part in (0, 1)]


def close(model, wanted):
    for weight, expected in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_allclose(weight, expected, atol=2e-5)


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.75, 2)])
def test_swa_is_the_mean_at_the_ends_of_epochs(given, path, start, first):
    result = WeightAverage("swa", start, training=SGD).apply(given, DIGITS)
    close(result.model, swa(path, first))
    close(result.baselines["last"], path[-1][-1])
    assert f"ends of epochs {first + 1} to 4" in " ".join(result.notes)


@pytest.mark.parametrize(("start", "decay", "first"), [(0.0, 0.9, 0), (0.75, 0.999, 3)])
def test_ema_is_the_weighted_mean_over_steps(given, path, start, decay, first):
    result = WeightAverage("ema", start, decay, SGD).apply(given, DIGITS)
    close(result.model, ema([step for epoch in path[first:] for step in epoch], decay))


def test_ema_with_xla(given, path):
    training = dataclasses.replace(SGD, jit=True, steps_per_execution=1)
    close(WeightAverage("ema", 0.5, 0.9, training).apply(given, DIGITS).model, ema(path[2] + path[3], 0.9))


def test_the_call_its_report_and_its_file(given, path, tmp_path):
    before = fingerprint(given)
    model, report = WeightAverage("swa", 0.5, training=SGD)(given, DIGITS)
    assert fingerprint(given) == before and model.count_params() == given.count_params()
    assert [row["model"] for row in report.rows()] == ["model", "last"] and len(report.history["train/loss"]) == 4
    x, y, _ = DIGITS.test.head(len(DIGITS.test))
    kernel, bias = swa(path, 1)
    assert report["test/accuracy"] == pytest.approx(np.mean((x.reshape(len(x), -1) @ kernel + bias).argmax(1) == y), abs=0.01)
    model.save(tmp_path / "mean.keras")
    assert np.array_equal(keras.models.load_model(tmp_path / "mean.keras")(x[:5]), model(x[:5]))


@pytest.mark.parametrize("how", ["swa", "ema"])
def test_statistics_are_measured_anew(how):
    result = WeightAverage(how, 0.5, training=SGD).apply(net(norm=True), DIGITS)
    x = DIGITS.train.x.reshape(120, -1).astype("float64")
    for model in (result.model, result.baselines["last"]):
        np.testing.assert_allclose(model.get_layer("norm").moving_mean, x.mean(0), atol=1e-5)
        np.testing.assert_allclose(model.get_layer("norm").moving_variance, x.var(0), atol=1e-4)


@pytest.mark.parametrize("how", ["swa", "ema"])
def test_an_interrupted_run_goes_on(given, path, how, monkeypatch):
    technique = WeightAverage(how, 0.0, training=SGD)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    whole = Train.fit
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Train, "fit", lambda self, model, data, callbacks=(): whole(self, model, data, [*callbacks, Interrupt()]))
        technique(given, DIGITS)
    model, report = technique(given, DIGITS)
    assert "Resumed at epoch 3 of 4." in report.notes
    close(model, swa(path, 0) if how == "swa" else ema([step for epoch in path for step in epoch], 0.999))


def test_it_trains_for_others_and_under_a_teacher(given, path):
    technique = WeightAverage("ema", 0.5, 0.9, SGD)
    assert isinstance(technique, Trainer)
    taught = WeightAverage("ema", 0.5, 0.9, Distill(given, training=SGD)).apply(given, DIGITS)
    wanted = ema(path[2] + path[3], 0.9)
    assert not np.allclose(taught.model.get_weights()[0], wanted[0], atol=1e-3)
    student = technique.private(given, DIGITS)
    technique.fit(student, DIGITS)
    assert "train_step" not in vars(student)
    close(technique.public(student, DIGITS), wanted)


def test_what_is_refused():
    for wrong, said in (
        ({"how": "mean"}, "`how`"),
        ({"start": 1.0}, "`start`: expected a number in"),
        ({"start": -0.1}, "`start`"),
        ({"start": True}, "`start`"),
        ({"how": "ema", "decay": 1.0}, "`decay`"),
        ({"how": "ema", "decay": 0}, "`decay`"),
        ({"decay": 0.9}, "`decay`: how='swa' weighs all epochs alike"),
        ({"training": Train(epochs=2)}, "`start`: the mean would be over the end of one epoch alone"),
        ({"training": Train(stopping=Stopping())}, "`stopping`"),
        ({"how": "ema", "training": Train(strategy="mirrored")}, "`training`: ema works on one device"),
    ):
        with pytest.raises(ValueError, match=said):
            WeightAverage(**wrong)
    with pytest.raises(TypeError, match="`training`"):
        WeightAverage(training=None)
