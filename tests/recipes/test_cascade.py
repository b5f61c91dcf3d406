"""The recipe, made small, run as a program; test_quickstart.py runs one in a process of its own."""

import runpy
import sys
from pathlib import Path

import keras

ROOT = Path(__file__).resolve().parents[2]


def test_the_recipe_prints_its_table_and_writes_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cascade.py", "--quick"])
    runpy.run_path(str(ROOT / "recipes" / "cascade.py"), run_name="__main__")
    told = capsys.readouterr().out
    for word in ("ensemble", "convnet", "mean", "threshold", "leave on test"):
        assert word in told, told
    assert keras.models.load_model(tmp_path / "cascade.keras").output_shape == (None, 10)
