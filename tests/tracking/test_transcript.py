"""From a journal to MLflow."""

from collections.abc import Callable
from typing import Any

import pytest

from kdfuse.report import Report
from kdfuse.tracking.journal import Journal
from kdfuse.tracking.store import Store
from kdfuse.tracking.transcript import ParentMissing, Transcript


@pytest.fixture
def journal(database: str) -> Journal:
    return begin(database, "a")


def begin(uri: str, run_id: str, parent: str | None = None) -> Journal:
    made = Journal(run_id)
    run = {"id": run_id, "name": run_id, "technique": "Train", "parent": parent, "started": 1e9}
    destination = {"uri": uri, "experiment": "x", "artifacts": None}
    made.write({"kind": "start", "run": run, "settings": {}, "tags": {"kdfuse.run_id": run_id}, "destination": destination, "moment": 1e9})
    return made


def log(made: Journal, name: str, value: float, step: int | None) -> None:
    made.write({"kind": "log", "values": {name: value}, "step": step, "moment": 1e9 + 1 + (step or 0)})


def end(made: Journal, report: Report | None = None) -> None:
    made.write({"kind": "end", "status": "finished", "report": report.to_json() if report else None, "moment": 1e9 + 60})


def test_it_follows_a_journal_that_grows(journal: Journal, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    transcript = Transcript(journal.folder, Store)
    assert not transcript.catch_up() and runs()["a"].info.status == "RUNNING"
    for step in range(3):
        log(journal, "train/loss", 1.0 / (step + 1), step)
        assert not transcript.catch_up()
        assert len(curve(runs()["a"], "train/loss")) == step + 1
    journal.write({"kind": "tag", "tags": {"late": "yes"}})
    journal.write({"kind": "of a later version"})
    end(journal)
    assert transcript.catch_up() and transcript.done
    assert runs()["a"].info.status == "FINISHED" and runs()["a"].data.tags["kdfuse.late"] == "yes"


def test_the_data_is_named(database: str, runs: Callable[..., Any]) -> None:
    made = Journal("a")
    run = {"id": "a", "name": "a", "technique": "Train", "parent": None, "started": 1e9}
    tags = {"kdfuse.run_id": "a", "data": "digits", "data_fingerprint": "f" * 64}
    destination = {"uri": database, "experiment": "x", "artifacts": None}
    made.write({"kind": "start", "run": run, "settings": {}, "tags": tags, "destination": destination, "moment": 1e9})
    end(made)
    for _ in range(2):  # again changes nothing
        Transcript(made.folder, Store).catch_up()
    (used,) = runs()["a"].inputs.dataset_inputs
    assert used.dataset.name == "digits" and used.dataset.digest == "f" * 36 and "f" * 64 in used.dataset.source


def test_the_measured_figure_comes_after_its_curve(journal: Journal, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    for step in range(2):
        log(journal, "validation/accuracy", 0.5, step)
    end(journal, Report(metrics={"validation/accuracy": 0.9, "test/accuracy": 0.8}))
    Transcript(journal.folder, Store).catch_up()
    assert curve(runs()["a"], "validation/accuracy") == [(0, 0.5), (1, 0.5), (2, 0.9)]
    assert curve(runs()["a"], "test/accuracy") == [(0, 0.8)]


def test_epochs_before_a_resumption_come_from_the_report(journal: Journal, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    log(journal, "train/loss", 0.25, 2)
    end(journal, Report(history={"train/loss": [1.0, 0.5, 0.2499]}, metrics={"train/loss": 0.2}))
    Transcript(journal.folder, Store).catch_up()
    assert curve(runs()["a"], "train/loss") == [(0, 1.0), (1, 0.5), (2, 0.25), (3, 0.2)]


def test_a_child_without_its_parent(database: str, runs: Callable[..., Any]) -> None:
    child = begin(database, "child", parent="parent")
    with pytest.raises(ParentMissing):
        Transcript(child.folder, Store).catch_up()
    Transcript(child.folder, Store, orphans=True).catch_up()
    assert "mlflow.parentRunId" not in runs()["child"].data.tags


def test_abandon_ends_at_the_last_event(journal: Journal, runs: Callable[..., Any]) -> None:
    log(journal, "train/loss", 0.25, 2)
    transcript = Transcript(journal.folder, Store)
    transcript.catch_up()
    transcript.abandon()
    assert (runs()["a"].info.status, runs()["a"].info.end_time) == ("KILLED", 1_000_000_003_000)
