import keras
import pytest

import kdfuse as kf
from kdfuse.search.candidate import Choice
from kdfuse.search.goals import make_goals
from kdfuse.search.teams import alone, teams
from kdfuse.search.trial import Trial


def opened(data, technique, space, build=kf.models.mlp, count=3):
    choice = Choice(technique, space, build)
    trials = [Trial(choice.from_values(place, values)) for place, values in zip(range(count), choice.space.grid(3), strict=False)]
    for trial in trials:
        trial.built = trial.candidate.model(data)
        trial.alone = alone(trial, data)
    return trials


def test_dense_networks_train_as_a_team_and_are_judged(data):
    trials = opened(data, kf.Train(epochs=3), {"build__units": [4, 8, 16]})
    (team,) = teams(trials, data, make_goals("accuracy", None, None, data))
    team.advance(1)
    assert [(trial.epochs, len(trial.history["train/loss"]), trial.how) for trial in trials] == [(1, 1, "population of 3")] * 3
    first = [trial.metrics["validation/accuracy"] for trial in trials]
    trials[0].status = "stopped"
    team.advance(None)
    assert [trial.epochs for trial in trials] == [1, 3, 3] and trials[0].metrics["validation/accuracy"] == first[0]
    found = kf.evaluate(trials[2].model, data)
    assert found["accuracy"] == pytest.approx(trials[2].metrics["validation/accuracy"])
    assert found.metrics["cost/macs"] == trials[2].metrics["cost/macs"]
    assert trials[2].seconds > 0


def test_a_trial_that_stops_is_that_of_its_best_epoch(data):
    stopping = kf.Stopping("validation/accuracy", patience=1)
    trials = opened(data, kf.Train(epochs=12, learning_rate=0.05, stopping=stopping), {"build__units": [8, 16]}, count=2)
    (team,) = teams(trials, data, make_goals("accuracy", None, None, data))
    team.advance(None)
    for trial in trials:
        curve = trial.history["validation/accuracy"]
        assert trial.epochs == len(curve) < 12 and f"Stopped early after {len(curve)} of 12 epochs." in trial.notes
        assert trial.metrics["validation/accuracy"] == pytest.approx(max(curve)) and curve[-1] <= max(curve)


def test_a_model_of_the_user_is_copied(data):
    model = kf.models.mlp(data, units=(4,))
    before = model.get_weights()
    trials = opened(data, kf.Train(epochs=1), {"learning_rate": [0.1, 0.01]}, model, count=2)
    (team,) = teams(trials, data, make_goals("accuracy", None, None, data))
    team.advance(None)
    assert all((old == new).all() for old, new in zip(before, model.get_weights(), strict=True))
    assert trials[0].model is not model and not any(one is model for one in team.models)


def test_what_trains_alone_says_why(data):
    goals = make_goals("accuracy", None, None, data)
    (dense,) = opened(data, kf.Train(), {"build__units": [4]}, count=1)
    (conv,) = opened(data, kf.Train(), {"build__filters": [2]}, kf.models.convnet, count=1)
    (taught,) = opened(data, kf.Distill(kf.models.mlp(data)), {"label_weight": [0.5]}, count=1)
    (team,) = teams([conv, dense, taught], data, goals)
    assert team.trials == [dense] and dense.alone == ""
    assert "Conv2D" in conv.alone and taught.alone == "Distill is not Train"


def test_different_numbers_of_epochs_are_different_teams(data):
    trials = opened(data, kf.Train(), {"epochs": [1, 2, 2]})
    assert [len(team.trials) for team in teams(trials, data, make_goals(None, None, None, data))] == [1, 2]


def test_what_diverges_has_failed(data):
    trials = opened(data, kf.Train(epochs=1, optimizer=keras.optimizers.SGD()), {"learning_rate": [1e30]}, count=1)
    (team,) = teams(trials, data, make_goals(None, None, None, data))
    team.advance(None)
    assert "not finite" in trials[0].error


def test_a_long_training_that_was_killed_goes_on_from_what_was_written_down(data, tmp_path, monkeypatch):
    space, goals = {"build__units": [4, 8, 16]}, make_goals("accuracy", None, None, data)
    training = kf.Train(epochs=4, decay="cosine")
    (whole,) = teams(opened(data, training, space), data, goals)
    whole.advance(None)
    monkeypatch.setattr("kdfuse.search.teams.EVERY", 0.0)  # every epoch is long
    (killed,) = teams(opened(data, training, space), data, goals, tmp_path)
    advance = killed.population.advance

    def at_the_third(epochs):
        if killed.population.epoch == 2:
            raise KeyboardInterrupt
        advance(epochs)

    monkeypatch.setattr(killed.population, "advance", at_the_third)
    with pytest.raises(KeyboardInterrupt):
        killed.advance(None)
    # One trial ended in between, by its own: the others are found among the three.
    trials = opened(data, training, space)[1:]
    (going,) = teams(trials, data, goals, tmp_path)
    going.advance(None)
    assert all("Resumed at epoch 3 of 4." in trial.notes for trial in trials)
    for mine, theirs in zip(going.trials, whole.trials[1:], strict=True):
        assert mine.history == theirs.history
        assert mine.metrics == pytest.approx(theirs.metrics)
    assert list(tmp_path.glob("*.ckpt")) == [tmp_path / "team-0.ckpt"]


def test_a_damaged_file_warns_and_the_team_begins_again(data, tmp_path):
    (tmp_path / "team-0.ckpt").write_bytes(b"half a file")
    trials = opened(data, kf.Train(epochs=1), {"build__units": [4]}, count=1)
    (team,) = teams(trials, data, make_goals("accuracy", None, None, data), tmp_path)
    with pytest.warns(UserWarning, match="damaged"):
        team.advance(None)
    assert trials[0].epochs == 1 and trials[0].notes == []
