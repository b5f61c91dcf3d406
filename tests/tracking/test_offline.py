"""`sync`: journals that MLflow has not received in full."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kdfuse.home import home
from kdfuse.report import Report
from kdfuse.tracking.journal import EVENTS, Journal, waiting
from kdfuse.tracking.offline import pending, sync
from kdfuse.tracking.store import Destination, Store
from kdfuse.tracking.transcript import ParentMissing, Transcript


def write(
    run_id: str,
    *,
    parent: str | None = None,
    epochs: int = 4,
    ended: bool = True,
    uri: str | None = None,
    begun: float = 1e9,
    tags: Mapping[str, str] = {},
) -> Path:
    destination = Destination.current("tests", uri)
    made = Journal(run_id)
    made.write(
        {
            "kind": "start",
            "run": {"id": run_id, "name": f"run {run_id}", "technique": "Train", "parent": parent, "started": begun},
            "settings": {"epochs": epochs},
            "tags": {"kdfuse.run_id": run_id, **tags},
            "destination": {"uri": destination.uri, "experiment": destination.experiment, "artifacts": destination.artifacts},
            "moment": begun,
        }
    )
    for epoch in range(epochs):
        made.write({"kind": "log", "values": {"train/loss": 1.0 / (epoch + 1)}, "step": epoch, "moment": begun + epoch + 1})
    made.write({"kind": "something new", "moment": begun})
    if ended:
        text = Report(technique="Train", metrics={"test/accuracy": 0.5}).to_json()
        made.write({"kind": "end", "status": "finished", "report": text, "moment": begun + 50})
    made.release()
    return made.folder


def test_original_times_are_kept(database: str, runs: Callable[..., Any]) -> None:
    write("a")
    sync()
    found = runs()["run a"]
    assert (found.info.start_time, found.info.end_time) == (1_000_000_000_000, 1_000_000_050_000)
    client = Store(Destination.current("tests")).client
    assert [point.timestamp for point in client.get_metric_history(found.info.run_id, "train/loss")] == [
        1_000_000_001_000 + 1000 * epoch for epoch in range(4)
    ]


def test_three_syncs_make_no_duplicates(database: str, runs: Callable[..., Any], curve: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copytree(write("a"), tmp_path / "kept")
    for _ in range(3):
        shutil.copytree(tmp_path / "kept", home("journal", "a"), dirs_exist_ok=True)
        assert [outcome.state for outcome in sync()] == ["sent"]
    found = runs()
    assert set(found) == {"run a"} and curve(found["run a"], "train/loss") == [(epoch, 1 / (epoch + 1)) for epoch in range(4)]
    assert curve(found["run a"], "test/accuracy") == [(0, 0.5)]


@pytest.mark.parametrize("lines", [1, 3, 5])
def test_a_half_sent_journal_is_completed(
    lines: int, database: str, runs: Callable[..., Any], curve: Callable[..., Any], tmp_path: Path
) -> None:
    folder = write("a")
    half = tmp_path / "half"
    half.mkdir()
    half.joinpath(EVENTS).write_bytes(b"".join(folder.joinpath(EVENTS).read_bytes().splitlines(keepends=True)[:lines]))
    assert not Transcript(half, Store).catch_up()
    assert runs()["run a"].info.status == "RUNNING"
    sync()
    found = runs()["run a"]
    assert found.info.status == "FINISHED" and len(curve(found, "train/loss")) == 4


def test_a_truncated_journal_of_a_dead_process_ends_as_killed(database: str, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    folder = write("a", ended=False)
    content = folder.joinpath(EVENTS).read_bytes()
    folder.joinpath(EVENTS).write_bytes(content + b'{"kind": "log", "values": {"train/l')
    assert [outcome.state for outcome in sync()] == ["sent"]
    found = runs()["run a"]
    assert found.info.status == "KILLED" and found.info.end_time == 1_000_000_004_000
    assert len(curve(found, "train/loss")) == 4


def test_a_child_comes_after_its_parent(database: str, runs: Callable[..., Any]) -> None:
    write("child", parent="parent", begun=1e9 + 5)
    write("parent", begun=1e9)
    assert [outcome.run_id for outcome in sync()] == ["parent", "child"]
    found = runs()
    assert found["run child"].data.tags["mlflow.parentRunId"] == found["run parent"].info.run_id


def test_a_child_waits_for_a_parent_that_goes_on(database: str, runs: Callable[..., Any]) -> None:
    write("child", parent="parent")
    parent = Journal("parent")
    parent.write({"kind": "start", "run": {"id": "parent", "name": "p", "parent": None, "started": 1.0}})
    assert {outcome.run_id: outcome.state for outcome in sync()} == {"parent": "open", "child": "waits"}
    parent.remove()
    with pytest.raises(ParentMissing):
        Transcript(home("journal", "child"), Store).catch_up()
    assert [outcome.state for outcome in sync()] == ["sent"], "the parent is gone for good: the child goes without"
    assert "mlflow.parentRunId" not in runs()["run child"].data.tags


def test_one_that_cannot_be_sent_does_not_hold_up_the_others(database: str, runs: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "no database").write_text("this is no database " * 100)
    write("bad", uri=f"sqlite:///{tmp_path / 'no database'}", begun=1.0)
    write("good")
    home("journal", "empty").mkdir()
    home("journal", "empty", EVENTS).write_text("")
    outcomes = {outcome.run_id: outcome for outcome in sync()}
    assert outcomes["bad"].state == "failed" and "not a database" in outcomes["bad"].detail
    assert outcomes["empty"].state == "failed" and outcomes["good"].state == "sent"
    assert {folder.name for folder in waiting()} == {"bad", "empty"} and set(runs()) == {"run good"}


def test_pending_tells_runs_that_go_on_from_those_left(database: str) -> None:
    assert pending() == (0, 0)
    write("a")
    going_on = Journal("b")
    going_on.write({"kind": "start", "run": {"started": 1.0}})
    assert pending() == (1, 1)
    going_on.remove()


def test_nothing_to_sync(database: str) -> None:
    assert sync() == []
