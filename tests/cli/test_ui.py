"""`kdfuse ui`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from kdfuse.cli import ui
from kdfuse.cli.app import main
from kdfuse.home import home
from kdfuse.tracking.store import Destination, Store


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KDFUSE_EXPERIMENT"):
        monkeypatch.delenv(name, raising=False)


def test_a_taken_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as raised:
            main(["ui", "--port", str(port)])
    assert raised.value.code == 2 and f"{port} is in use" in capsys.readouterr().err


def test_a_server_has_its_own_pages(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@somewhere:5000")
    with pytest.raises(SystemExit) as raised:
        main(["ui"])
    assert not raised.value.code and "http://***@somewhere:5000" in capsys.readouterr().out


def test_the_smallest_server_on_the_local_store() -> None:
    command = ui.command("sqlite:///x.db", "file:///a", "127.0.0.1", 5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert command[command.index("--workers") + 1] == "1" and command[command.index("--backend-store-uri") + 1] == "sqlite:///x.db"
    assert ui.environment("sqlite:///x.db")["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_link_opens_the_runs_of_the_newest_experiment() -> None:
    store = Store(Destination.current("first"))
    assert store.newest() is None and ui.page(None) == "/experiments?workflowType=machine_learning"
    store.client.create_run(store.experiment)
    Store(Destination.current("second"))
    assert store.newest() == store.experiment
    assert ui.page(store.experiment) == f"/experiments/{store.experiment}/runs?workflowType=machine_learning"


@pytest.mark.slow
def test_the_pages_show_runs_and_their_files() -> None:
    store = Store(Destination.current("x"))
    run = store.client.create_run(store.experiment, run_name="hello")
    store.client.log_text(run.info.run_id, "text", "a.txt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "kdfuse.cli.app", "ui", "--port", str(port)], cwd=Path(__file__).parents[2], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        runs = f"/#/experiments/{store.experiment}/runs?workflowType=machine_learning"
        assert process.stdout is not None and f"http://127.0.0.1:{port}{runs}" in process.stdout.readline()
        for _ in range(240):
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).read().decode()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.25)
        assert "<title>MLflow" in page
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/search",
            json.dumps({"experiment_ids": [store.experiment]}).encode(),
            {"Content-Type": "application/json"},
        )
        found = json.loads(urllib.request.urlopen(asked, timeout=10).read())
        assert [one["info"]["run_name"] for one in found["runs"]] == ["hello"]
        file = f"http://127.0.0.1:{port}/get-artifact?path=a.txt&run_uuid={run.info.run_id}"
        assert urllib.request.urlopen(file, timeout=10).read() == b"text"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert home("mlflow.db").exists()
