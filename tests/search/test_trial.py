import json

from kdfuse.search.candidate import Candidate
from kdfuse.search.trial import Trial


def make(units=8):
    return Trial(Candidate(3, {"build__units": units, "build": len}, None, len, {}, {"build__units": units, "build": "len"}))


def test_a_trial_comes_back_from_what_was_kept_of_it():
    trial = make()
    trial.status, trial.metrics, trial.epochs, trial.how, trial.seconds = "finished", {"validation/accuracy": 0.5}, 4, "alone", 1.25
    kept = json.loads(json.dumps(trial.kept()))
    again = make()
    assert again.restore(kept) and again.kept() == trial.kept()
    other = make(units=9)
    assert not other.restore(kept) and other.status == "open"


def test_a_row_tells_settings_and_figures():
    trial = make()
    trial.metrics = {"cost/macs": 7.0}
    row = trial.row()
    assert (row["model"], row["build"], row["build__units"], row["cost/macs"], row["status"]) == ("trial 3", "len", 8, 7.0, "open")
    assert "error" not in row
    trial.error = "ValueError: no"
    assert trial.row()["error"] == "ValueError: no"
