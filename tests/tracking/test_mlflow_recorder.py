"""Runs in MLflow, as the recorder writes them to a real SQLite store."""

import errno
import math
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdfuse import recording
from kdfuse.home import home
from kdfuse.report import Report
from kdfuse.tracking.journal import EVENTS, RESERVE, Journal, waiting
from kdfuse.tracking.mlflow_recorder import MlflowRecorder, shortened
from kdfuse.tracking.offline import sync
from tests.test_home import limited

ROOT = Path(__file__).parents[2]


def report(name: str, accuracy: float = 0.9) -> Report:
    return Report(
        technique="Train",
        name=name,
        metrics={"validation/accuracy": accuracy, "size/parameters": 650.0},
        history={"train/loss": [1.0, 0.5, 0.25], "validation/accuracy": [0.5, 0.6, 0.7]},
        tables={"confusion/test": [{"true": "0", "0": 3, "1": 1}, {"true": "1", "0": 0, "1": 4}]},
        notes=["The head is softmax."],
        seconds=2.5,
    )


def train(name: str = "a", epochs: int = 3, **arguments: Any) -> recording.Run:
    with recording.run(name, "Train", {"epochs": epochs, "optimizer": "adam", "decay": None}, **arguments) as run:
        for epoch in range(epochs):
            run.log({"train/loss": 1 / 2**epoch, "validation/accuracy": 0.5 + epoch / 10}, step=epoch)
        run.report = report(name)
    return run


def test_a_run_has_all_there_is_to_say(recorder: MlflowRecorder, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    begun = time.time()
    made = train(key="k" * 64, tags={"data": "digits", "kdfuse.teacher_run": "abc"})
    found = runs()["a"]
    assert found.info.status == "FINISHED"
    assert abs(found.info.start_time / 1000 - begun) < 5 and found.info.end_time >= found.info.start_time
    assert found.data.params == {"epochs": "3", "optimizer": "adam", "decay": "None"}
    assert curve(found, "train/loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert curve(found, "validation/accuracy") == [(0, 0.5), (1, 0.6), (2, 0.7), (3, 0.9)], "the measured figure comes after the curve"
    assert found.data.metrics == {"train/loss": 0.25, "validation/accuracy": 0.9, "size/parameters": 650.0, "seconds": 2.5}
    tags = found.data.tags
    assert tags["kdfuse.run_id"] == made.id and tags["kdfuse.technique"] == "Train" and tags["kdfuse.key"] == "k" * 64
    assert tags["kdfuse.data"] == "digits" and tags["kdfuse.teacher_run"] == "abc"
    assert tags["version.python"] == ".".join(map(str, sys.version_info[:3])) and tags["version.mlflow"]
    assert "The head is softmax." in tags["mlflow.note.content"]
    files = home("artifacts") / found.info.run_id / "artifacts"
    assert Report.from_json((files / "report.json").read_text()) == report("a")
    assert {path.name for path in (files / "plots").iterdir()} == {"learning_curves.png", "confusion_test.png"}
    assert waiting() == [], "what MLflow has needs no journal"


def test_children_know_their_parent(recorder: MlflowRecorder, runs: Callable[..., Any]) -> None:
    with recording.run("parent", "Chain"):
        train("child")
    found = runs()
    assert found["child"].data.tags["mlflow.parentRunId"] == found["parent"].info.run_id
    assert "mlflow.parentRunId" not in found["parent"].data.tags


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_how_a_run_ends(error: Any, status: str, recorder: MlflowRecorder, runs: Callable[..., Any]) -> None:
    try:
        with recording.run("a") as run:
            run.log({"train/loss": 0.5})
            if error is not None:
                raise error
    except BaseException as raised:
        assert type(raised) is error
    assert runs()["a"].info.status == status and runs()["a"].data.metrics == {"train/loss": 0.5}


def test_odd_names_and_values(recorder: MlflowRecorder, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    settings = {"x*y?": "z" * 9000, "empty": "", **{f"p{i}": i for i in range(230)}}
    with recording.run("odd", "Train", settings) as run:
        run.log({"a b(c)": 1, "nan": float("nan"), "inf": float("inf"), "none": None}, step=0)  # type: ignore[dict-item]
        run.log({f"m{i}": float(i) for i in range(1500)}, step=0)
    found = runs()["odd"]
    assert len(found.data.params) == 232 and len(found.data.params["x_y_"]) == 6000
    assert found.data.metrics["a b_c_"] == 1 and math.isnan(found.data.metrics["nan"]) and found.data.metrics["inf"] > 1e308
    assert found.data.metrics["m1499"] == 1499 and "none" not in found.data.metrics


def test_files_are_kept_although_they_go(recorder: MlflowRecorder, runs: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    (tmp_path / "m.tflite").write_bytes(b"TFL3")
    with recording.run("a") as run:
        run.file(path, "texts")
        path.unlink()
        run.report = Report(files={"tflite": tmp_path / "m.tflite", "gone": tmp_path / "gone"})
    files = home("artifacts") / runs()["a"].info.run_id / "artifacts"
    assert (files / "texts" / "a.txt").read_text() == "hello" and (files / "files" / "m.tflite").exists()


def test_the_users_own_mlflow_is_not_touched(database: str, runs: Callable[..., Any], empty_database: Path, tmp_path: Path) -> None:
    import mlflow

    shutil.copy2(empty_database, tmp_path / "theirs.db")
    theirs = f"sqlite:///{tmp_path / 'theirs.db'}"
    mlflow.set_tracking_uri(theirs)
    try:
        with mlflow.start_run(run_name="mine") as run:
            with recording.use(MlflowRecorder("tests", database)):
                train("ours")
            assert mlflow.get_tracking_uri() == theirs and mlflow.active_run().info.run_id == run.info.run_id
            mlflow.log_metric("x", 1.0)
            with recording.use(MlflowRecorder("tests")):
                train("beside mine")
    finally:
        mlflow.set_tracking_uri(None)
    assert set(runs()) == {"ours"}
    assert set(runs(theirs)) == {"mine", "beside mine"} and runs(theirs)["mine"].data.metrics == {"x": 1.0}


def test_find_gives_the_report_of_a_finished_run(recorder: MlflowRecorder, runs: Callable[..., Any]) -> None:
    train("a", key="k1")
    with pytest.raises(ValueError), recording.run("b", key="k2"):
        raise ValueError
    assert recording.find("k1") == report("a")
    assert recording.find("k2") is None and recording.find("k3") is None


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_away_costs_a_warning_and_nothing_else(
    database: str, runs: Callable[..., Any], curve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with recording.use(MlflowRecorder("tests", f"http://127.0.0.1:{closed_port()}")):
        begun = time.perf_counter()
        with pytest.warns(RuntimeWarning, match="kdfuse sync") as caught, recording.run("group"):
            train("a")
            train("b")
        assert len(caught) == 1, "one warning, not one a run"
        assert time.perf_counter() - begun < 10
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train("c")
    assert len(waiting()) == 4 and runs() == {}
    first = sync(database)
    assert [(outcome.name, outcome.state) for outcome in first] == [(name, "sent") for name in ("group", "a", "b", "c")]
    assert sync(database) == sync(database) == [] and waiting() == []
    found = runs()
    assert set(found) == {"group", "a", "b", "c"} and {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["a"].data.tags["mlflow.parentRunId"] == found["group"].info.run_id
    for name in ("a", "b", "c"):
        assert curve(found[name], "train/loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]


def test_a_broken_journal_does_not_end_training(recorder: MlflowRecorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="training goes on"):
        made = train("a")
    assert made.report is not None


@pytest.mark.filterwarnings("ignore:MLflow at")
@pytest.mark.parametrize(("room", "status"), [(30_000, "FINISHED"), (50, "KILLED")])
def test_a_disk_that_is_full_at_the_end_does_not_end_training(
    room: int, status: str, recorder: MlflowRecorder, runs: Callable[..., Any], curve: Callable[..., Any]
) -> None:
    run = recording.begin("a", "Train")
    run.log({"train/loss": 1.0}, step=0)
    run.report = report("a")
    run.report.tables["large"] = [{"model": "x" * 50_000}]
    with warnings.catch_warnings(record=True) as caught, limited((waiting()[0] / EVENTS).stat().st_size + room):
        warnings.simplefilter("always")
        recording.finish(run, "finished")
    told = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    assert len(told) == (status == "KILLED") and all("training goes on" in text and "Make room on the disk of" in text for text in told)
    assert [outcome.state for outcome in sync()] == ["sent"] and waiting() == []
    found = runs()["a"]
    assert found.info.status == status and curve(found, "train/loss")[0] == (0, 1.0)
    if status == "FINISHED":
        assert found.data.metrics["validation/accuracy"] == 0.9 and len(curve(found, "train/loss")) == 3
        assert "The disk was full at the end" in found.data.tags["mlflow.note.content"]


def test_a_run_whose_end_could_not_be_written_down_is_closed_at_once_where_mlflow_has_room(
    recorder: MlflowRecorder, runs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:  # a limit on files would stop the database, too
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "finish", full)
    with pytest.warns(UserWarning, match="Make room on the disk of"):
        train("a")
    assert runs()["a"].info.status == "KILLED" and runs()["a"].data.metrics["train/loss"] == 0.25 and waiting() == []


def test_a_disk_that_is_full_at_the_start_leaves_no_journal(recorder: MlflowRecorder, runs: Callable[..., Any]) -> None:
    with limited(100), pytest.warns(UserWarning, match="Make room on the disk of") as caught:
        made = train("a")
    assert made.report is not None and len(caught) == 1 and waiting() == [] and sync() == []
    train("b")
    assert set(runs()) == {"b"}


def test_a_short_report_fits_in_the_room_that_is_kept() -> None:
    long = report("a")
    long.history = {f"curve {number}": [0.5] * 1000 for number in range(10)}
    assert shortened(None) is None
    for one in (report("a"), long):
        made = shortened(one)
        assert made is not None and made.metrics == one.metrics and len(made.to_json()) < RESERVE // 2
        assert made.history == (one.history if one is not long else {})


PROGRAM = """
import os, signal, sys, time
from kdfuse import recording
from kdfuse.tracking.mlflow_recorder import MlflowRecorder, shortened
with recording.use(MlflowRecorder("tests")):
    with recording.run("killed", "Train", {"epochs": 9}) as run:
        for epoch in range(5):
            run.log({"train/loss": 1 / 2**epoch}, step=epoch)
        print("ready", flush=True)
        time.sleep(60)
"""


def program(code: str = PROGRAM) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_a_killed_process_loses_nothing(database: str, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    process = program()
    try:
        assert [outcome.state for outcome in sync()] == ["open"], "a run that goes on is left alone"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [outcome.state for outcome in sync()] == ["sent"]
    found = runs()["killed"]
    assert found.info.status == "KILLED" and found.info.end_time is not None
    assert curve(found, "train/loss") == [(epoch, 1 / 2**epoch) for epoch in range(5)]
    assert sync() == [] and waiting() == []


def test_sigterm_ends_the_run_as_killed(database: str, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    process = program()
    process.terminate()
    assert process.wait(30) == 143
    found = runs()["killed"]
    assert found.info.status == "KILLED" and len(curve(found, "train/loss")) == 5
    assert waiting() == []


def test_a_short_process_waits_for_its_local_store(database: str, runs: Callable[..., Any]) -> None:
    code = PROGRAM.replace("time.sleep(60)", "run.log({'late': 1.0})")
    process = program(code)
    assert process.wait(60) == 0
    assert runs()["killed"].info.status == "FINISHED" and runs()["killed"].data.metrics["late"] == 1.0
    assert waiting() == []
