import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse import recording
from kdfuse.measure.measure import measure
from kdfuse.search.candidate import Choice
from kdfuse.search.goals import make_goals
from kdfuse.search.work import Job, as_bytes, trains, work


def job(data, technique, space, **settings):
    candidate = Choice(technique, space, kf.models.mlp).from_values(0, {name: values[0] for name, values in space.items()})
    return Job(candidate, make_goals("accuracy", None, None, data), recording.Run("trial 0", "Train"), **settings)


def test_a_trial_is_trained_and_measured_on_validation_alone(data, tmp_path):
    outcome = work(job(data, kf.Train(epochs=3), {"build__units": [4]}, until=2), data.with_splits(test=None))
    assert outcome.error == "" and len(outcome.history["train/loss"]) == 2 and outcome.seconds > 0
    assert "validation/accuracy" in outcome.metrics and not any(name.startswith(("test/", "latency/")) for name in outcome.metrics)
    (tmp_path / "model.keras").write_bytes(as_bytes(outcome.model, tmp_path))
    assert kf.load_model(tmp_path / "model.keras").count_params() == outcome.metrics["size/parameters"]


def test_a_trial_that_paused_goes_on_from_its_checkpoint(data):
    paused = job(data, kf.Train(epochs=3), {"build__units": [4]}, until=1)
    paused.run.key = "test-a-trial-that-paused"
    work(paused, data)
    paused.until = 3
    outcome = work(paused, data)
    assert "Resumed at epoch 2 of 3." in outcome.notes and len(outcome.history["train/loss"]) == 3


def test_what_goes_wrong_is_told(data):
    outcome = work(job(data, kf.Train(epochs=1), {"build__units": [-4]}), data)
    assert outcome.error.startswith("ValueError") and "units" in outcome.error and outcome.model is None


def test_a_trial_below_the_bar_stops(data):
    bar = ("validation/accuracy", [1.1] * 5)
    outcome = work(job(data, kf.Train(epochs=5), {"build__units": [4]}, bar=bar, grace=1), data)
    assert outcome.stopped and len(outcome.history["train/loss"]) == 1


def test_trainers_are_told_from_other_techniques(data):
    training = kf.Train()
    assert trains(training) is training
    assert trains(kf.Distill(kf.models.mlp(data), training=training)) is training
    assert trains(kf.Shrink(training=training)) is None and trains(kf.Chain([training])) is None


def test_interruptions_are_no_failures_of_a_trial(data):
    def build(data):
        raise KeyboardInterrupt

    candidate = Choice(kf.Train(), {"learning_rate": [0.1]}, build).from_values(0, {"learning_rate": 0.1})
    with pytest.raises(KeyboardInterrupt):
        work(Job(candidate, make_goals(None, None, None, data), recording.Run("trial 0", "Train")), data)


def masked(data):
    """Steps of digits' rows, of which the empty ones at the end do not count."""
    inputs = keras.Input((8, 8))
    x = keras.layers.LSTM(4, return_sequences=True)(keras.layers.Masking()(inputs))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def several(data):
    inputs = keras.Input((8, 8))
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, {"digit": keras.layers.Dense(10, name="digit")(x), "even": keras.layers.Dense(2, name="even")(x)})


@pytest.mark.parametrize("build", [masked, several])
def test_what_a_trial_is_judged_by_is_what_its_model_gives(data, build):
    def rows(split):
        x, y, _ = split.head(90)
        x = x[..., 0].copy()
        x[::2, 5:] = 0
        return x, np.repeat(y[:, None], 8, axis=1) if build is masked else {"digit": y, "even": y % 2}

    own = kf.Data(rows(data.train), rows(data.validation))
    candidate = Choice(kf.Train(), {"epochs": [2]}, build).from_values(0, {"epochs": 2})
    outcome = work(Job(candidate, make_goals("accuracy", None, None, own), recording.Run("trial 0", "Train")), own)
    expected = measure(outcome.model, own, splits=("validation",), latency=False).metrics
    figures = {name: value for name, value in expected.items() if name.startswith("validation/")}
    assert outcome.error == "" and len(figures) >= 3
    assert {name: outcome.metrics[name] for name in figures} == pytest.approx(figures, rel=1e-5)


def test_a_trial_of_another_precision_is_judged_by_the_model_that_comes_back(data):
    outcome = work(job(data, kf.Train(epochs=2, precision="mixed_bfloat16"), {"build__units": [8]}), data)
    expected = measure(outcome.model, data, splits=("validation",), latency=False).metrics
    assert outcome.metrics["validation/log_loss"] == pytest.approx(expected["validation/log_loss"], rel=1e-6)
