import pytest

import kdfuse as kf
from kdfuse import recording
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
