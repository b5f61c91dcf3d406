"""Plots of a comparison."""

import math
import xml.etree.ElementTree as ElementTree

from kdfuse.tracking.compare import charts

ROWS = [
    {"model": "a", "front": True, "validation/accuracy": 0.9, "bytes": 1000.0, "sd/validation/accuracy": 0.01},
    {"model": "b", "front": False, "validation/accuracy": 0.8, "bytes": 2000.0},
    {"model": "c", "front": True, "validation/accuracy": 0.7, "bytes": 10.0},
    {"model": "d", "front": False, "validation/accuracy": math.nan, "bytes": 10.0},
]


def test_points_and_the_line_of_the_best() -> None:
    made = charts.trade(ROWS, "bytes", "validation/accuracy")
    assert made is not None
    [axes] = made.axes
    points = {line.get_gid(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_gid()}
    assert points == {"point-0": (1000.0, 0.9), "point-1": (2000.0, 0.8), "point-2": (10.0, 0.7)}
    [best] = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(zip(best.get_xdata(), best.get_ydata(), strict=True)) == [(10.0, 0.7), (1000.0, 0.9)]
    assert axes.get_xscale() == "log" and [text.get_text() for text in axes.texts] == ["1", "2", "3"]
    assert charts.trade(ROWS[:1], "bytes", "validation/accuracy") is None


def test_curves_are_means_with_a_band() -> None:
    made = charts.curves({"a": [[1.0, 2.0], [3.0, 4.0, 9.0]], "_b $x$ <i>": [[1.0]]}, "validation/loss")
    first, second = made.axes[0].lines
    assert first.get_ydata().tolist() == [2.0, 3.0] and second.get_ydata().tolist() == [1.0]
    low, high = made.axes[0].collections[0].get_datalim(made.axes[0].transData).intervaly
    assert (low, high) == (2 - math.sqrt(2), 3 + math.sqrt(2))
    assert "_b $x$ &lt;i&gt;" in charts.svg(made)


def test_steps() -> None:
    lines = [{"model": "in", "validation/accuracy": 0.9, "test/accuracy": 0.8, "size/nonzero": 100.0, "cost/macs": 9.0},
             {"model": "1. Prune $", "validation/accuracy": 0.8, "test/accuracy": 0.7, "size/nonzero": 25.0, "cost/macs": 9.0}]  # fmt: skip
    made = charts.steps(lines)
    assert made is not None
    shares = {line.get_label(): list(line.get_ydata()) for line in made.axes[1].lines}
    assert shares == {"nonzero": [1.0, 0.25], "MACs": [1.0, 1.0]}
    assert [list(line.get_ydata()) for line in made.axes[0].lines] == [[0.9, 0.8], [0.8, 0.7]]
    assert charts.svg(made) and charts.steps(lines[:1]) is None


def test_an_element_of_a_page() -> None:
    made = charts.trade(ROWS, "bytes", "validation/accuracy")
    assert made is not None
    text = charts.svg(made, {"point-0": 'a <b> & "c"'})
    root = ElementTree.fromstring(text.replace("&quot;", '"'))
    assert root.tag.endswith("svg") and "width" not in root.attrib
    assert 'class="point"><title>a &lt;b&gt; &amp; &quot;c&quot;</title>' in text
    assert "var(--ink)" in text and "#1f2933" not in text and "metadata" not in text
    assert charts.svg(made) == charts.svg(made)
