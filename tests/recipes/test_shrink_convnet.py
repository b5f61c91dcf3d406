"""The recipe, made small, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_recipe_halves_the_network_and_writes_it(tmp_path):
    environment = {**os.environ, "KDFUSE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "recipes" / "shrink_convnet.py", "--quick"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("before", "control", "MACs"):
        assert word in done.stdout, done.stdout
    assert (tmp_path / "small.keras").stat().st_size > 0 and (tmp_path / "small.tflite").read_bytes()[4:8] == b"TFL3"
