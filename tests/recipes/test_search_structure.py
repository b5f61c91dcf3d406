"""The recipe, made small, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import keras

ROOT = Path(__file__).resolve().parents[2]


def test_the_recipe_prints_its_table_and_writes_a_model(tmp_path):
    environment = {**os.environ, "KDFUSE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "recipes" / "search_structure.py", "--quick"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("The front:", "by hand", "The winner is trial", "population of"):
        assert word in done.stdout, done.stdout
    assert keras.models.load_model(tmp_path / "searched.keras").output_shape == (None, 10)
