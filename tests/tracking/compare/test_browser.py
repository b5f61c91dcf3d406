"""A real browser opens what `track` printed, and sees the runs and the columns."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kdfuse as kf
from kdfuse import recording
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.sender import sender
from tests.tracking.test_sender import answers, free_port, kill

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_links_of_a_group_open_its_comparison(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = kf.datasets.load("digits", labels=200)
    with recording.use(MlflowRecorder()), kf.track("widths"):
        for units in (4, 8):
            kf.Train(epochs=1)(kf.models.mlp(data, units=units), data, name=f"{units} units")
    sender().wait()
    told = capsys.readouterr().out
    port = free_port()
    links = {name: link.replace("127.0.0.1:5000", f"127.0.0.1:{port}") for name, link in re.findall(r"^  (\w+) +(http\S+)$", told, re.M)}
    command = [sys.executable, "-m", "kdfuse.cli.app", "ui", "--port", str(port)]
    server = subprocess.Popen(command, env={**os.environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        answers(server, port)
        table, together = (seen(links[name], tmp_path / name) for name in ("table", "together"))
    finally:
        kill(server)
    for word in ("4 units", "8 units", "test/accuracy", "size/parameters", "cost/macs"):
        assert word in table, f"{word} is not on the page of the saved view"
    assert "4 units" in together and "8 units" in together


def seen(link: str, folder: Path) -> str:
    """The page as the browser has it once its scripts have run."""
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
    ]
    limits = ["--window-size=2400,1200", "--virtual-time-budget=30000", "--timeout=60000", f"--user-data-dir={folder}"]
    assert CHROMIUM is not None
    return subprocess.run([CHROMIUM, *options, *limits, "--dump-dom", link], capture_output=True, text=True, timeout=150).stdout
