"""The sending thread against stores that hang, die and come back."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kdfuse import recording
from kdfuse.report import Report
from kdfuse.tracking import sender as module
from kdfuse.tracking.journal import Journal, waiting
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.offline import sync
from kdfuse.tracking.sender import Sender
from kdfuse.tracking.store import Destination, Store


def run(name: str, epochs: int = 3) -> None:
    with recording.run(name, "Train") as opened:
        for epoch in range(epochs):
            opened.log({"train/loss": 1.0 / (epoch + 1)}, step=epoch)
        opened.report = Report(technique="Train", metrics={"test/accuracy": 0.5})


def test_a_server_that_never_answers_holds_up_the_end_for_three_seconds(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    monkeypatch.setattr(module, "START_PATIENCE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        with recording.use(MlflowRecorder("tests", f"http://127.0.0.1:{silent.getsockname()[1]}")):
            begun = time.perf_counter()
            run("a")
            assert time.perf_counter() - begun < 3.5
            time.sleep(1.5)
            with pytest.warns(RuntimeWarning, match="does not answer"):
                run("b")
    assert len(waiting()) == 2
    assert [outcome.state for outcome in sync(database)] == ["sent", "sent"]


def test_many_short_epochs_become_few_calls(recorder: MlflowRecorder, runs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    calls: list[int] = []
    original = MlflowClient.log_batch

    def counted(self: Any, run_id: str, metrics: Any = (), *arguments: Any, **keywords: Any) -> Any:
        calls.append(len(metrics))
        return original(self, run_id, metrics, *arguments, **keywords)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    run("a", epochs=400)
    assert sum(calls) == 402 and len([size for size in calls if size]) <= 6
    assert len(runs()) == 1


def test_the_end_of_the_process_says_what_is_left(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCAL_PATIENCE", 0.1)
    monkeypatch.setattr(module, "START_PATIENCE", 0.1)
    monkeypatch.setattr(module, "_at_exit", lambda function: None)
    monkeypatch.setattr(Store, "__init__", lambda *arguments, **keywords: time.sleep(1.0))
    sender = Sender()
    journal = Journal("r")
    journal.write({"kind": "start", "run": {"id": "r", "name": "r", "parent": None, "started": 1.0}, "settings": {}, "tags": {},
                   "destination": {"uri": database, "experiment": "x", "artifacts": None}, "moment": 1.0})  # fmt: skip
    sender.open("r", journal, Destination(database, "x"))
    assert not sender.close("r", 0.1)
    with pytest.warns(RuntimeWarning, match="has not received 1 run"):
        sender.flush()


def test_a_failed_store_is_tried_again_after_a_while(database: str, runs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [True]
    original = Store.find

    def find(self: Store, run_id: str) -> Any:
        if broken[0]:
            raise ConnectionError("gone")
        return original(self, run_id)

    monkeypatch.setattr(Store, "find", find)
    monkeypatch.setattr(module, "AWAY", 3600.0)
    with recording.use(MlflowRecorder("tests")):
        with pytest.warns(RuntimeWarning, match="ConnectionError: gone"):
            run("a")
        broken[0] = False
        run("b")
        tried = module.sender()._away
        tried.update(dict.fromkeys(tried, 0.0))  # as after that while
        run("c")
    end = time.monotonic() + 20
    while waiting() and time.monotonic() < end:
        time.sleep(0.05)
    assert sync() == [], "a run that reaches the store lets those before it be sent, too"
    assert {name: one.info.status for name, one in runs().items()} == dict.fromkeys("abc", "FINISHED")


def test_a_forked_child_has_a_sender_of_its_own() -> None:
    code = """
import os
from kdfuse.tracking.sender import sender
mine = sender()
child = os.fork()
if child == 0:
    os._exit(0 if sender() is not mine else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, port: int, store: str | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """A real MLflow server, up when the block begins; `store`: its database, by default a SQLite file in `folder`."""
    stores = ["--backend-store-uri", store or f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", str(folder / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", *stores, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        answers(process, port)
        yield process
    finally:
        kill(process)


def answers(process: "subprocess.Popen[bytes]", port: int, page: str = "health") -> None:
    """Wait until a server, MLflow's by default, answers."""
    for _ in range(480):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=1)
            return
        except OSError:
            assert process.poll() is None, "the server ended"
            time.sleep(0.25)
    raise AssertionError("the server does not answer")


def kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_run(
    database: str, runs: Callable[..., Any], curve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * 1000)
    with recording.use(MlflowRecorder("tests", uri)), pytest.warns(RuntimeWarning) as caught, server(tmp_path, port) as process:
        run("before")
        assert waiting() == [] and runs(uri)["before"].info.status == "FINISHED"
        with recording.run("group"), recording.run("broken") as opened:
            for epoch in range(12):
                begun = time.perf_counter()
                opened.log({"train/loss": 1.0 / (epoch + 1)}, step=epoch)
                assert time.perf_counter() - begun < 0.5, "training does not wait for the server"
                time.sleep(0.2)
                if epoch == 5:
                    time.sleep(1.0)
                    assert 0 < len(curve(runs(uri)["broken"], "train/loss", uri)) <= 6
                    kill(process)
            opened.file(path)
            opened.report = Report(technique="Train", metrics={"test/accuracy": 0.5}, history={"train/loss": [1.0, 0.5]})
    assert len([warning for warning in caught if "kdfuse sync" in str(warning.message)]) == 1
    assert len(waiting()) == 2
    assert {outcome.state for outcome in sync()} == {"failed", "waits"}, "the server is still away"
    with server(tmp_path, port):
        assert [outcome.state for outcome in sync()] == ["sent", "sent"]
        assert sync() == []
        found = runs(uri)
        assert {name: one.info.status for name, one in found.items()} == {"before": "FINISHED", "group": "FINISHED", "broken": "FINISHED"}
        assert curve(found["broken"], "train/loss", uri) == [(epoch, 1.0 / (epoch + 1)) for epoch in range(12)]
        assert found["broken"].data.tags["mlflow.parentRunId"] == found["group"].info.run_id
        from mlflow import MlflowClient

        files = {one.path for one in MlflowClient(tracking_uri=uri).list_artifacts(found["broken"].info.run_id)}
        assert files == {"weights.bin", "report.json", "plots"}


def test_dear_calls_are_made_less_often(recorder: MlflowRecorder, runs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    calls: list[float] = []
    original = MlflowClient.log_batch

    def dear(self: Any, run_id: str, metrics: Any = (), *arguments: Any, **keywords: Any) -> Any:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        if metrics:
            calls.append(time.monotonic())
        return original(self, run_id, metrics, *arguments, **keywords)

    monkeypatch.setattr(MlflowClient, "log_batch", dear)
    with recording.run("a", "Train") as opened:
        for epoch in range(30):
            opened.log({"train/loss": 1.0}, step=epoch)
            time.sleep(0.1)
        during = len(calls)
        opened.report = Report(technique="Train", metrics={"test/accuracy": 0.5})
    # With calls of 0.02 s and more, a hundredth of the time is one call in 2 s; every half second would be six.
    assert 1 <= during <= 3
    assert runs()["a"].data.metrics["train/loss"] == 1.0
