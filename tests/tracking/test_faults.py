"""Whole processes and real servers that fail: no figure is lost, none is there twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdfuse.home import home
from kdfuse.tracking.journal import waiting
from kdfuse.tracking.offline import sync
from tests.tracking.test_sender import free_port, server

ROOT = Path(__file__).parents[2]
STORY = """
import os, sys, time
from kdfuse import recording
from kdfuse.report import Report
from kdfuse.tracking.mlflow_recorder import MlflowRecorder

def story(name, dies=False):
    with recording.use(MlflowRecorder("tests")), recording.run(name, "Train", {"epochs": 30}) as run:
        for epoch in range(30):
            run.log({"train/loss": 1 / (epoch + 1), "validation/accuracy": epoch / 30}, step=epoch)
        if dies:
            os.kill(os.getpid(), 9)
        run.report = Report(technique="Train", metrics={"test/accuracy": 0.5, "validation/accuracy": 0.75})
"""
LOSS = [(epoch, 1 / (epoch + 1)) for epoch in range(30)]


def tell(name: str, uri: str, dies: bool = False) -> None:
    """A process of its own records the story."""
    code = f"{STORY}\nstory({name!r}, {dies})"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=environment, timeout=120)
    assert done.returncode == (-signal.SIGKILL if dies else 0)


@pytest.mark.slow
def test_a_server_that_is_away_for_whole_runs(database: str, runs: Callable[..., Any], curve: Callable[..., Any], tmp_path: Path) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    tell("away", uri)
    assert len(waiting()) == 1
    with server(tmp_path, port):
        command = [sys.executable, "-m", "kdfuse.cli.app", "sync"]
        for told in ("1 of 1 runs sent", ""):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0 and told in done.stdout and waiting() == []
        whole(runs(uri)["away"], "FINISHED", curve, uri)


@pytest.mark.slow
def test_a_server_that_is_away_at_the_start_and_back_for_the_next_run(
    database: str, runs: Callable[..., Any], curve: Callable[..., Any], tmp_path: Path
) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    tell("away", uri)
    tell("killed", uri, dies=True)
    assert len(waiting()) == 2
    with server(tmp_path, port):
        tell("next", uri)
        assert waiting() == [] and sync() == []
        found = runs(uri)
        assert set(found) == {"away", "killed", "next"}
        for name, status in (("away", "FINISHED"), ("killed", "KILLED"), ("next", "FINISHED")):
            whole(found[name], status, curve, uri)


def whole(run: Any, status: str, curve: Callable[..., Any], uri: str) -> None:
    """It has each figure of the story, once."""
    assert run.info.status == status and run.data.params == {"epochs": "30"}
    assert curve(run, "train/loss", uri) == LOSS
    measured = [(30, 0.75)] if status == "FINISHED" else []
    assert curve(run, "validation/accuracy", uri) == [(epoch, epoch / 30) for epoch in range(30)] + measured
    assert curve(run, "test/accuracy", uri) == ([(0, 0.5)] if measured else [])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_six_processes_record_whole_runs_in_an_empty_store(database: str, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    home("mlflow.db").unlink()
    code = f"""{STORY}
import warnings, mlflow  # before the fork, so that all six arrive at the store together
read, write = os.pipe()
children = []
for number in range(6):
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        warnings.filterwarnings("error", "Recording|MLflow")
        try:
            story(f"run {{number}}")
            from kdfuse.tracking.sender import sender
            os._exit(sender().wait())
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(9)
    children.append(child)
os.close(write)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=240)
    assert done.returncode == 0 and "locked" not in done.stderr, done.stderr[-2000:]
    found = runs()
    assert set(found) == {f"run {number}" for number in range(6)} and waiting() == []
    for run in found.values():
        whole(run, "FINISHED", curve, database)
    files = [path.name for path in home("artifacts").rglob("report.json")]
    assert len(files) == 6
