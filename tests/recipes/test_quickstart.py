"""The recipe, made small, as a user runs it: in a process of its own, into a real store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[2]


def test_quickstart_prints_the_table_and_logs_the_runs(tmp_path):
    environment = {**os.environ, "KDFUSE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    for name in ("KDFUSE_TRACKING", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    command = [sys.executable, ROOT / "recipes" / "quickstart.py", "--epochs", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("student", "teacher", "control", "accuracy", "agreement", "MACs", "latency", "committee of the three", "ask the teacher"):
        assert word in done.stdout, done.stdout

    client = MlflowClient(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("quickstart").experiment_id])
    names = [
        "1. Prune",
        "2. QuantizeAware",
        "cascade: student, then teacher",
        "committee of the three",
        "control",
        "digits: a convnet teaches 30-30",
        "student",
        "student, 80 % zeros, int8",
        "teacher",
    ]
    assert sorted(run.info.run_name for run in runs) == [*names, "teacher, half of its units"]
    assert (tmp_path / "student.tflite").stat().st_size < 12_000
    found = {run.info.run_name: run for run in runs}
    student = found["student"]
    assert student.info.status == "FINISHED" and student.data.params["losses__0__temperature"] == "4.0"
    teacher, committee, cascade = (found[name] for name in ("teacher", "committee of the three", "cascade: student, then teacher"))
    costs = [one.data.metrics["cost/macs"] for one in (student, teacher)]
    asked = cascade.data.metrics["cascade/asked"]
    assert cascade.data.metrics["cost/macs"] == pytest.approx(costs[0] + asked * costs[1])
    assert committee.data.metrics["cost/macs"] > sum(costs)
    assert student.data.tags["kdfuse.teacher_run"] == teacher.data.tags["kdfuse.run_id"]
    assert len(client.get_metric_history(student.info.run_id, "train/soft_targets_loss")) == 4
    assert {"test/accuracy", "kd/agreement", "delta/control/test/accuracy"} <= set(student.data.metrics)

    plain = "import keras, sys; m = keras.models.load_model('student.keras'); assert 'kdfuse' not in sys.modules; print(m.count_params())"
    loaded = subprocess.run(
        [sys.executable, "-c", plain], cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip().endswith(str(65 * 30 + 31 * 30 + 31 * 10))
