"""A chain of five techniques, killed at twenty random moments: nothing that finished is lost, and the result is the same."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHAIN = """
import kdfuse as kf

data = kf.datasets.load("digits")
once = kf.Train(epochs=2, batch_size=128)
chain = kf.Chain([kf.Train(epochs=4, batch_size=128), kf.Shrink(0.3, training=once), kf.Prune(0.5, training=once),
                  kf.Cluster(8, training=once), kf.Calibrate()])
print("GO", flush=True)
model, report = chain(kf.models.mlp(data, units=16, dropout=0.2), data)
told = ("test/", "size/parameters", "size/nonzero")
print("DONE", {name: value for name, value in sorted(report.metrics.items()) if name.startswith(told)})
print("NOTES", *report.notes)
"""


def started(folder: Path, home: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "KDFUSE_HOME": str(folder / home), "KDFUSE_TRACKING": "off", "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen([sys.executable, "chain.py"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("GO"):
            return process
    raise AssertionError("it did not begin")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills(tmp_path: Path) -> None:
    (tmp_path / "chain.py").write_text(CHAIN)
    alone = started(tmp_path, "alone")
    begun = time.monotonic()
    expected = alone.communicate(timeout=200)[0].splitlines()[-2]
    assert expected.startswith("DONE")
    whole = time.monotonic() - begun
    draws, kills, ends, spared = random.Random(0), 0, 0, 0
    while kills < 20 or not ends:
        process = started(tmp_path, "killed")
        try:
            # A run that has to begin again at every kill would need one that comes late.
            said, _ = process.communicate(timeout=draws.uniform(0, whole / 2) if kills < 20 else None)
        except subprocess.TimeoutExpired:
            process.send_signal(draws.choice([signal.SIGKILL, signal.SIGTERM]))
            process.communicate(timeout=60)
            kills += 1
            continue
        done, notes = said.splitlines()[-2:]
        assert done == expected
        ends, spared = ends + 1, spared + ("not made again" in notes)
        assert not list((tmp_path / "killed" / "state").glob("*")), "the state of a finished chain is dropped"
    assert ends and spared
