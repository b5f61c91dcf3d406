"""Plots of a report: that they are drawn, from the right numbers."""

import sys
from pathlib import Path

import numpy as np

from kdfuse.report import Report
from kdfuse.tracking.plots import confusion, draw, learning_curves

HISTORY = {
    "train/loss": [1.0, 0.5, 0.25],
    "validation/loss": [1.1, 0.4, 0.6],
    "validation/accuracy": [0.5, 0.9, 0.8],
    "learning_rate": [0.1, 0.1, 0.01],
}
MATRIX = [{"true": "cat", "cat": 8, "dog": 2}, {"true": "dog", "cat": 1, "dog": 29}]


def test_curves_hold_the_history() -> None:
    made = learning_curves(HISTORY, "x")
    panels = {axes.get_title(loc="left"): axes for axes in made.axes}
    assert {name for name in panels if name} == {"loss", "accuracy", "learning rate"}
    lines = {line.get_label(): line for line in panels["loss"].lines}
    np.testing.assert_array_equal(lines["train"].get_xydata(), [[1, 1.0], [2, 0.5], [3, 0.25]])
    np.testing.assert_array_equal(lines["best 0.4 (epoch 2)"].get_xydata(), [[2, 0.4]])
    assert "best 0.9 (epoch 2)" in {line.get_label() for line in panels["accuracy"].lines}


def test_gaps_and_a_single_epoch_are_drawn() -> None:
    made = learning_curves({"train/loss": [1.0, float("nan"), 0.5], "validation/loss": [0.7]})
    first, second = made.axes[0].lines
    assert first.get_xydata().tolist() == [[1, 1.0], [3, 0.5]]
    assert second.get_xydata().tolist() == [[1, 0.7]]


def test_confusion_shows_shares_of_the_true_class() -> None:
    axes = confusion(MATRIX, "run").axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [1 / 30, 29 / 30]])
    assert [text.get_text() for text in axes.texts] == ["8", "2", "1", "29"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog"]
    assert "92.5% of 40 right" in axes.get_title(loc="left")


def test_confusion_of_classes_that_are_called_true_and_false() -> None:
    axes = confusion([{"class": "false", "false": 3, "true": 1}, {"class": "true", "false": 0, "true": 4}]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["false", "true"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["false", "true"]


def test_draw_writes_files_and_leaves_pyplot_alone(tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules
    paths = draw(Report(technique="Train", history=HISTORY, tables={"confusion/test": MATRIX, "models": []}), tmp_path / "plots")
    assert [path.name for path in paths] == ["learning_curves.png", "confusion_test.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_nothing_to_draw_makes_nothing(tmp_path: Path) -> None:
    assert draw(Report(technique="Quantize", history={"train/loss": [1.0]}), tmp_path / "plots") == []
    assert not (tmp_path / "plots").exists()


def test_many_classes_stay_readable() -> None:
    names = [f"class {i}" for i in range(60)]
    rows = [{"true": name, **{other: int(name == other) for other in names}} for name in names]
    axes = confusion(rows).axes[0]
    assert not axes.texts and len(axes.get_xticks()) == 30


def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    bad = r"$\frac$"
    rows = [{"true": bad, bad: 1, "dog": 2}, {"true": "dog", bad: 0, "dog": 3}]
    trials = [{"model": bad, "status": "finished", "validation/accuracy": 0.5, "size/parameters": 2000, "build__units": 3}]
    tables = {"confusion/test": rows, "weights": [{"model": bad, "weight": 0.3}], "trials": trials, "front": trials}
    report = Report("Train", {}, {}, {"train/loss": [1.0, 0.1]}, tables, name=bad)
    assert len(draw(report, tmp_path)) >= 3
