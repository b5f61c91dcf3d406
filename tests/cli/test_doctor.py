"""`kdfuse doctor`."""

import socket
from pathlib import Path

import pytest

from kdfuse.cli.app import main
from kdfuse.home import home
from kdfuse.tracking.journal import Journal


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as raised:
        main(["doctor"])
    return int(raised.value.code or 0), " ".join(capsys.readouterr().out.split())


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KDFUSE_EXPERIMENT"):
        monkeypatch.delenv(name, raising=False)


def test_before_the_first_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path / "none"))
    code, text = doctor(capsys)
    assert code == 0 and "All is well." in text
    assert f"sqlite:///{home('mlflow.db')}" in text and "none yet" in text and "none to send" in text
    assert "CPU:0" in text and "keras" in text and "there is no such folder" in text and "off (KDFUSE_TRACKING)" in text
    assert not home("mlflow.db").exists(), "looking changes nothing"


def test_a_store_that_is_away(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    left = Journal("a")
    left.write({"kind": "start", "run": {"started": 1.0}})
    left.release()
    code, text = doctor(capsys)
    assert code == 1 and "does not answer" in text and "secret" not in text
    assert "1 to send: run `kdfuse sync`" in text
