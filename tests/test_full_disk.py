"""A disk that is really full while a model trains: a small file system of its own, filled in the third epoch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STORY = """
import json, shutil, sys, warnings
from pathlib import Path
import kdfuse as kf
from kdfuse.fitting.checkpoint import Checkpoints, read
from kdfuse.home import home
from kdfuse.tracking.sender import sender

disk, told = Path("disk"), {}
data = kf.datasets.load("digits", labels=200)
kf.save_model(kf.models.mlp(data, units=4), disk / "student.keras")
before = (disk / "student.keras").read_bytes()

def fill():
    with open(disk / "filler", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            assert shutil.disk_usage(disk).free < 4096

def at_the_end_of_an_epoch(self, epoch, logs=None, original=Checkpoints.on_epoch_end):
    if epoch == 2:
        fill()
    original(self, epoch, logs)
    told["kept"] = [read(path).meta["epoch"] for path in sorted(self.shelf.folder.glob("*.ckpt"))]

Checkpoints.on_epoch_end = at_the_end_of_an_epoch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model, report = kf.Train(epochs=5)(kf.models.mlp(data, units=512), data, name="full")
    sender().flush()
told["epochs"] = len(report.history["train/loss"])
told["warnings"] = [str(one.message) for one in caught if issubclass(one.category, (UserWarning, RuntimeWarning))]
fill()
try:
    kf.save_model(model, disk / "student.keras")
except OSError as error:
    told["save"] = [str(error), *error.__notes__]
told["whole"] = (disk / "student.keras").read_bytes() == before
(disk / "filler").unlink()
from mlflow import MlflowClient
from kdfuse.tracking.offline import sync
told["sync"] = [[outcome.name, outcome.state] for outcome in sync()]
client = MlflowClient(tracking_uri="sqlite:///" + str(home("mlflow.db")))
(run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
told["status"] = run.info.status
told["curve"] = sorted(point.step for point in client.get_metric_history(run.info.run_id, "train/loss"))
told["accuracy"] = [run.data.metrics["test/accuracy"], report.metrics["test/accuracy"]]
print("TOLD", json.dumps(told))
"""


@pytest.mark.slow
def test_training_goes_on_and_nothing_that_was_whole_is_lost(tmp_path: Path) -> None:
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=16m none disk"
    (tmp_path / "disk").mkdir()
    if shutil.which("unshare") is None or subprocess.run([*alone, mount], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("This user may not mount a file system of its own (Linux with user namespaces)")
    (tmp_path / "story.py").write_text(STORY)
    environment = {**os.environ, "KDFUSE_HOME": "disk/home", "KDFUSE_TRACKING": "on", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [*alone, f"{mount} && exec '{sys.executable}' story.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("TOLD")).removeprefix("TOLD"))
    assert told["epochs"] == 5 and told["kept"] == [0, 1], "training goes on, and the checkpoints before stay whole"
    checkpoints = [text for text in told["warnings"] if text.startswith("The checkpoint of epoch")]
    assert len(checkpoints) == 3 and all("Make room on the disk of" in text for text in checkpoints)
    assert any("Recording failed" in text and "Make room on the disk of" in text for text in told["warnings"])
    assert any("disk is full" in text and "kdfuse sync" in text for text in told["warnings"])
    assert told["whole"] and "No space left" in told["save"][0] and "an earlier file there is as it was" in told["save"][1]
    assert told["sync"] == [["full", "sent"]] and told["status"] == "FINISHED"
    assert told["curve"][:5] == [0, 1, 2, 3, 4] and told["accuracy"][0] == told["accuracy"][1]
