"""Plots of searches: drawn from the right numbers."""

import pytest

from kdfuse.report import Report
from kdfuse.tracking.plots import draw
from kdfuse.tracking.search_plots import front, goals, parallel

KEYS = ("model", "status", "build", "build__units", "keep", "validation/accuracy", "cost/macs")
ROWS = [
    ("trial 0", "finished", "mlp", 8, 0.5, 0.9, 900.0),
    ("trial 1", "finished", "mlp", 4, 0.25, 0.8, 90.0),
    ("trial 2", "stopped", "convnet", None, 0.5, 0.3, 950.0),
    ("trial 3", "failed", "mlp", 9, 0.5, None, None),
]
TRIALS = [{key: value for key, value in zip(KEYS, row, strict=True) if value is not None} for row in ROWS]
SPACE = {
    "space__build__0": "mlp",
    "space__build__1": "convnet",
    "space__build__units": "Int",
    "space__build__units__low": 4,
    "space__keep__0": 0.25,
}


@pytest.fixture()
def report():
    settings = {"maximize": "accuracy", "minimize": "macs", **SPACE}
    return Report("RandomSearch", settings, tables={"trials": TRIALS, "front": TRIALS[:2]}, name="search")


def test_the_goals_are_those_of_the_search(report):
    assert goals(report) == ["validation/accuracy", "cost/macs"]
    report.settings = {"maximize__0": "accuracy", "maximize__1": "macro_f1", "minimize": None}
    assert goals(report) == ["validation/accuracy", "validation/macro_f1"]
    report.settings = {}
    assert goals(report) == ["validation/accuracy"]


def test_the_front_is_a_line_through_its_trials_and_the_winner_is_marked(report):
    axes = front(report).axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn["front"] == [[90.0, 0.8], [900.0, 0.9]]
    assert drawn["winner: trial 0"] == [[900.0, 0.9]]
    assert drawn["1 stopped"] == [[950.0, 0.3]] and len(drawn["2 finished"]) == 2


def test_with_one_goal_the_cost_is_the_other_axis(report):
    report.settings = {"maximize": "accuracy"}
    assert front(report).axes[0].get_xlabel() == "MACs"
    report.tables["trials"] = [{**row, "cost/macs": None} for row in TRIALS]
    assert front(report) is None


def test_every_trial_that_was_measured_is_a_line_across_its_settings(report):
    axes = parallel(report).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["build", "units", "keep", "validation accuracy"]
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(lines) == 3 and sorted(len(line.get_xdata()) for line in lines) == [3, 4, 4]
    best = lines[-1]
    assert best.get_ydata()[-1] == 1.0 and best.get_linewidth() == 2.0


def test_nothing_is_drawn_of_nothing(report):
    report.tables["trials"] = TRIALS[3:]
    assert parallel(report) is None


def test_a_report_of_a_search_has_both_plots(report, tmp_path):
    assert [path.name for path in draw(report, tmp_path)] == ["front.png", "parallel_coordinates.png"]
