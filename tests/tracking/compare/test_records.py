"""Runs read back."""

from collections.abc import Callable
from typing import Any

import pytest

from kdfuse import recording
from kdfuse.home import home
from kdfuse.tracking.compare.records import read, value_of
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.sender import sender


def test_a_run_comes_back_as_it_was(add: Callable[..., Any]) -> None:
    settings = {"epochs": 3, "rate": 0.5, "optimizer": "adam", "jit": True, "l2": None}
    made = add("one", {"test/accuracy": 0.75, "size/parameters": 10}, settings, history={"validation/loss": [2.0, 1.0]}, key="k")
    sender().wait()
    [found] = read("made up").records
    assert (found.name, found.technique, found.status, found.parent) == ("one", "Train", "finished", None)
    assert found.settings == settings and found.tags["key"] == "k"
    assert {name: found.metrics[name] for name in made.metrics} == made.metrics and found.metrics["seconds"] == 1.5
    assert found.report is not None and found.report.history == {"validation/loss": [2.0, 1.0]}


def test_children_name_their_parent(add: Callable[..., Any]) -> None:
    with recording.run("group"):
        add("inside", {"test/accuracy": 0.5})
    sender().wait()
    group, inside = read("made up").records
    assert (group.technique, inside.parent) == ("track", group.id)


def test_what_was_not_sent_is_read_from_its_journal(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    away = "http://127.0.0.1:9"
    with pytest.warns(RuntimeWarning, match="does not answer"), recording.use(MlflowRecorder("far", away)):
        for name in ("kept", "kept too"):
            with recording.run(name, "Train", {"epochs": 2}) as run:
                run.log({"validation/accuracy": 0.5}, step=0)
                run.report = recording.Report("Train", metrics={"validation/accuracy": 0.75})
        sender().wait()
    reading = read("far", away)
    assert [record.name for record in reading.records] == ["kept", "kept too"]
    assert reading.records[0].metrics["validation/accuracy"] == 0.75 and reading.records[0].settings == {"epochs": 2}
    assert reading.records[0].report is not None and "does not answer" in reading.notes[0]
    with pytest.raises(ConnectionError, match="does not answer"):
        read("nothing of it", away)


def test_an_unknown_experiment_is_answered_with_near_names_and_not_made(add: Callable[..., Any], database: str) -> None:
    from mlflow import MlflowClient

    add("one", {"test/accuracy": 0.75})
    sender().wait()
    with pytest.raises(ValueError, match=r"`experiment`: .*Received: experiment='made upp'\. Did you mean 'made up'\?"):
        read("made upp")
    assert {one.name for one in MlflowClient(tracking_uri=database).search_experiments()} == {"Default", "unused", "made up"}
    with pytest.raises(ValueError, match="`experiment`"):
        read(" ")


def test_where_nothing_was_recorded_no_store_is_made() -> None:
    with pytest.raises(ValueError, match="no experiment yet"):
        read("x", f"sqlite:///{home('none.db')}")
    assert not home("none.db").exists()


@pytest.mark.parametrize(("text", "value"), [("None", None), ("true", True), ("3", 3), ("0.5", 0.5), ("adam", "adam"), ("[1]", "[1]"),
                                             ("NaN", "NaN"), ('"a"', '"a"')])  # fmt: skip
def test_settings_come_back_from_text(text: str, value: Any) -> None:
    found = value_of(text)
    assert found == value and type(found) is type(value)
