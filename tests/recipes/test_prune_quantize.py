"""The recipe, made small, run as a program; its file is measured again by the command."""

import runpy
import sys
from pathlib import Path

import pytest

from kdfuse.cli.app import main

ROOT = Path(__file__).resolve().parents[2]


def test_the_recipe_writes_a_file_that_the_command_measures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prune_quantize.py", "--epochs", "2"])
    runpy.run_path(str(ROOT / "recipes" / "prune_quantize.py"), run_name="__main__")
    told = capsys.readouterr().out
    for word in ("small", "LiteRT bytes", "tflite accuracy", "LiteRT latency"):
        assert word in told, told
    with pytest.raises(SystemExit) as left:
        main(["measure", "small.tflite", "--data", "digits"])
    assert not left.value.code
    measured = capsys.readouterr().out
    assert "size/tflite_bytes" in measured and "tflite/accuracy" in measured
