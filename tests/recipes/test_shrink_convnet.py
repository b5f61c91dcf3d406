"""The recipe, made small, run as a program; test_quickstart.py runs one in a process of its own."""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_recipe_halves_the_network_and_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["shrink_convnet.py", "--quick"])
    runpy.run_path(str(ROOT / "recipes" / "shrink_convnet.py"), run_name="__main__")
    told = capsys.readouterr().out
    for word in ("before", "control", "MACs"):
        assert word in told, told
    assert (tmp_path / "small.keras").stat().st_size > 0 and (tmp_path / "small.tflite").read_bytes()[4:8] == b"TFL3"
