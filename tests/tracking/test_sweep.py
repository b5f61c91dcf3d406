"""Runs that a dead process left are ended by the next process that records."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdfuse import recording
from kdfuse.home import home
from kdfuse.tracking import environment, sweep
from kdfuse.tracking.journal import EVENTS, Journal, waiting
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.offline import sync
from kdfuse.tracking.store import Destination, Store
from tests.tracking.test_mlflow_recorder import PROGRAM, program
from tests.tracking.test_offline import write

ROOT = Path(__file__).parents[2]
NEXT = """
from kdfuse import recording
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
with recording.use(MlflowRecorder("tests")), recording.run("next", "Train") as run:
    print("ready", flush=True)
"""


def killed(code: str = PROGRAM) -> None:
    process = program(code)
    process.send_signal(signal.SIGKILL)
    process.wait()


def swept(left: set[str]) -> bool:
    """Whether the thread leaves just these journals, before long."""
    end = time.monotonic() + 20
    while {folder.name for folder in waiting()} != left and time.monotonic() < end:
        time.sleep(0.02)
    return {folder.name for folder in waiting()} == left


def test_the_next_process_ends_a_killed_run(database: str, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    killed()
    assert program(NEXT).wait(60) == 0
    found = runs()
    assert {name: run.info.status for name, run in found.items()} == {"killed": "KILLED", "next": "FINISHED"}
    assert curve(found["killed"], "train/loss") == [(epoch, 1 / 2**epoch) for epoch in range(5)]
    assert found["killed"].data.params == {"epochs": "9"} and found["killed"].info.end_time < found["next"].info.start_time
    assert waiting() == []


@pytest.mark.slow
def test_a_killed_parent_and_its_child_end_together(database: str, runs: Callable[..., Any]) -> None:
    nested = PROGRAM.replace("    with recording.run(", '    with recording.run("group"), recording.run(')
    killed(nested)
    assert program(NEXT).wait(60) == 0
    found = runs()
    assert found["group"].info.status == found["killed"].info.status == "KILLED"
    assert found["killed"].data.tags["mlflow.parentRunId"] == found["group"].info.run_id


@pytest.mark.slow
def test_runs_that_live_are_left_alone(database: str, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    living = program()
    try:
        assert program(NEXT).wait(60) == 0
        assert runs()["killed"].info.status == "RUNNING" and len(waiting()) == 1
    finally:
        living.terminate()
        living.wait()
    assert runs()["killed"].info.status == "KILLED" and len(curve(runs()["killed"], "train/loss")) == 5


@pytest.mark.parametrize("uri", [None, "sqlite:///elsewhere.db"])
def test_journals_of_other_machines_and_other_stores_are_left_alone(
    uri: str | None, recorder: MlflowRecorder, runs: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = environment.tags()["kdfuse.host"] if uri else "another machine"
    write("other", ended=False, uri=uri, tags={"kdfuse.host": name})
    write("ours", ended=False, tags={"kdfuse.host": environment.tags()["kdfuse.host"]})
    with recording.run("next", "Train"):
        assert swept({"other", recording.current().id})  # type: ignore[union-attr]
    assert runs()["run ours"].info.status == "KILLED" and set(runs()) == {"run ours", "next"}


def test_one_that_cannot_be_sent_does_not_hold_up_those_of_the_next_look(database: str, runs: Callable[..., Any]) -> None:
    mine = {"kdfuse.host": environment.tags()["kdfuse.host"]}
    bad = write("bad", begun=1.0, tags=mine)
    first, *rest = (bad / EVENTS).read_text().splitlines(keepends=True)
    (bad / EVENTS).write_text(first + rest[0].replace('"step": 0', '"step": "none"'))
    write("good", ended=False, tags=mine)
    made = sweep.Sweep(Store)
    made.look(Destination.current("tests").uri)
    assert made.left == 2
    made.step()
    assert made.left == 0 and {folder.name for folder in waiting()} == {"bad", "good"}
    made._seen = {folder: until for folder, until in made._seen.items() if until > 1e9}  # as after a while
    made.look(Destination.current("tests").uri)
    made.step()
    assert {folder.name for folder in waiting()} == {"bad"} and runs()["run good"].info.status == "KILLED"


def test_while_another_process_syncs_nothing_is_swept(database: str) -> None:
    write("left", tags={"kdfuse.host": environment.tags()["kdfuse.host"]})
    made = sweep.Sweep(Store)
    made.look(Destination.current("tests").uri)
    with sweep.FileLock(home("journal", "sync.lock")):
        made.step()
    assert made.left == 0 and [folder.name for folder in waiting()] == ["left"]


def test_to_find_nothing_costs_nothing(database: str) -> None:
    going_on = [Journal(str(number)) for number in range(20)]
    made = sweep.Sweep(Store)
    made.look("sqlite:///x.db")
    begun = time.perf_counter()
    for _ in range(100):
        made.look("sqlite:///x.db")
    assert (time.perf_counter() - begun) / 100 < 0.005
    for one in going_on:
        one.remove()


@pytest.mark.slow
def test_what_a_killed_block_finished_is_taken_up_after_the_sweep(database: str, runs: Callable[..., Any], tmp_path: Path) -> None:
    story = """
import os, signal, sys
import kdfuse as kf
from kdfuse.train import Train

data = kf.datasets.load("digits", labels=100)
with kf.track("tests", run="story", resume=True) as group:
    first, _ = kf.Train(epochs=1)(kf.models.mlp(data, units=4), data, name="first " + sys.argv[1])
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    kf.Train(epochs=1, seed=1)(first, data, name="second")
"""
    (tmp_path / "story.py").write_text(story)
    for word, code in (("kill", -signal.SIGKILL), ("whole", 0)):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
        assert subprocess.run([sys.executable, "story.py", word], cwd=tmp_path, env=environment).returncode == code
    assert sync() == [], "nothing is left"
    found: dict[str, list[Any]] = {}
    client = Store(Destination.current("tests")).client
    for run in client.search_runs([client.get_experiment_by_name("tests").experiment_id]):
        found.setdefault(run.info.run_name, []).append(run)
    assert sorted(run.info.status for run in found["story"]) == ["FINISHED", "KILLED"]
    (first,), (again,) = found["first kill"], found["first whole"]
    assert first.info.status == again.info.status == "FINISHED"
    assert again.data.tags["kdfuse.kept_from_run"] == first.data.tags["kdfuse.run_id"], "it was not made again"
    assert len(found["second"]) == 1
