"""The README's own snippets do what it says of them."""

import functools
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kdfuse as kf

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def snippet(word: str) -> str:
    """The first block of Python that says `word`."""
    return next(code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if word in code)


def test_use_it_down_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    short = (("epochs=30", "epochs=2"), ('load("digits")', 'load("digits", labels=300)'), ("(400, 400)", "(40,)"))
    exec(functools.reduce(lambda code, pair: code.replace(*pair), short, snippet("import keras, kdfuse as kf")), names)
    few = "kf.Distill(teacher, training=kf.Train(epochs=2))"
    exec(snippet("chain = kf.Chain").replace("kf.Distill(teacher)", few).replace("Cluster(32)", "Cluster(32, training=None)"), names)
    student, tiny, report = names["student"], names["tiny"], names["report"]
    assert keras.models.load_model("student.keras").count_params() == student.count_params()
    kernels = [weight.numpy() for weight in tiny.weights if weight.path.endswith("kernel")]
    assert sum((kernel == 0).sum() for kernel in kernels) / sum(kernel.size for kernel in kernels) > 0.75
    assert max(len(np.unique(kernel)) for kernel in kernels) <= 32
    told = capsys.readouterr().out
    assert "latency" in told and str(report.files["tflite"]) in told
    assert report.files["tflite"].stat().st_size == report.metrics["size/tflite_bytes"] < report.metrics["size/keras_bytes"]

    exec(snippet("kf.Cascade("), names)
    stages = names["report"].tables["stages"]
    costs = [row["macs"] for row in stages]
    assert costs[0] <= names["report"].metrics["cost/macs"] <= sum(costs) and str(stages) in capsys.readouterr().out
    assert keras.models.load_model("cascade.keras").output_shape == (None, 10)


def test_found_by_search() -> None:
    names: dict[str, Any] = {"kf": kf, "data": kf.datasets.load("digits")}
    exec(snippet("kf.HalvingSearch(").replace("max_epochs=27", "max_epochs=4, eta=2"), names)
    report = names["report"]
    assert report.metrics["size/parameters"] <= 20_000 and report.tables["front"]
