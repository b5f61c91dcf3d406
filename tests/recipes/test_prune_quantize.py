"""The recipe, made small, as a user runs it; its file is measured again by the command."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_recipe_writes_a_file_that_the_command_measures(tmp_path):
    environment = {**os.environ, "KDFUSE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "recipes" / "prune_quantize.py", "--epochs", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("small", "LiteRT bytes", "tflite accuracy", "LiteRT latency"):
        assert word in done.stdout, done.stdout
    command = [sys.executable, "-m", "kdfuse.cli.app", "measure", "small.tflite", "--data", "digits"]
    measured = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert measured.returncode == 0, measured.stderr
    assert "size/tflite_bytes" in measured.stdout and "tflite/accuracy" in measured.stdout
