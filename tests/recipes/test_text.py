"""The recipe, made small, as a user runs it: in a process of its own, into a real store."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient

from kdfuse.datasets import files

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(files.find(["rt-polarity.pos"]) is None, reason="needs rt-polarity.pos and .neg in KDFUSE_DATA or in the Keras cache")
def test_text_prints_the_table_and_logs_the_runs(tmp_path):
    environment = {**os.environ, "KDFUSE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    for name in ("KDFUSE_TRACKING", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    command = [sys.executable, ROOT / "recipes" / "text.py", "--quick"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("student", "teacher", "control", "accuracy", "agreement", "MACs", "latency"):
        assert word in done.stdout, done.stdout

    client = MlflowClient(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("text").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["control", "polarity: a GRU teaches a convnet", "student", "teacher"]
    assert all(run.info.status == "FINISHED" for run in runs)

    with zipfile.ZipFile(tmp_path / "student.keras") as kept:
        assert "kdfuse" not in kept.read("config.json").decode()  # it loads without kdfuse: test_quickstart.py does so
    student = keras.models.load_model(tmp_path / "student.keras")
    assert student(np.array([[5, 4, 3] + 13 * [0]])).shape == (1, 2)
    assert student.count_params() == 500 * 16 + (3 * 16 * 16 + 16) + (16 * 2 + 2)
