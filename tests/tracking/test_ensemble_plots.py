"""Plots of ensembles: drawn from the right numbers."""

import pytest

from kdfuse.report import Report
from kdfuse.tracking.ensemble_plots import reliability, trade, weights
from kdfuse.tracking.plots import draw

CURVE = [{"confidence": 0.4, "accuracy": 0.5, "share": 0.25}, {"confidence": 0.9, "accuracy": 0.8, "share": 0.75}]
WEIGHTS = [{"model": "member 1", "weight": 0.7}, {"model": "member 2", "weight": 0.3}]
TRADE = [{"macs": 900.0, "accuracy": 0.98, "chosen": False}, {"macs": 300.0, "accuracy": 0.97, "chosen": True}]


def test_reliability_has_a_point_for_each_bin_and_says_the_error():
    axes = reliability(CURVE, "run").axes[0]
    assert axes.lines[1].get_xydata().tolist() == [[0.4, 0.5], [0.9, 0.8]]
    assert axes.get_title(loc="left") == "run\ncalibration error 0.1000"
    assert [bar.get_height() for bar in axes.patches] == [0.25, 0.75]


def test_weights_have_a_bar_for_each_member_and_a_panel_for_each_output():
    axes = weights(WEIGHTS).axes
    assert len(axes) == 1 and [bar.get_width() for bar in axes[0].patches] == [0.7, 0.3]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["member 1", "member 2"]
    assert len(weights([{"model": "member 1", "digit": 0.5, "parity": 0.1}, {"model": "member 2", "digit": 0.5, "parity": 0.9}]).axes) == 2


def test_the_trade_of_thresholds_marks_the_chosen():
    axes = trade(TRADE, "cascade").axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[300.0, 0.97], [900.0, 0.98]]
    assert axes.lines[1].get_xydata().tolist() == [[300.0, 0.97]] and "0.9700 at 300" in axes.lines[1].get_label()


@pytest.mark.parametrize(("name", "rows"), [("reliability", CURVE), ("weights", WEIGHTS), ("thresholds", TRADE)])
def test_a_report_with_such_a_table_has_the_plot(tmp_path, name, rows):
    assert [path.name for path in draw(Report("Cascade", tables={name: rows}), tmp_path)] == [f"{name}.png"]
    assert draw(Report("Cascade", tables={name: []}), tmp_path) == []
