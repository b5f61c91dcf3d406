"""The plots of a comparison: quality against cost, curves side by side, a chain's steps; as SVG that follows the page's colours."""

import html
import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdfuse.tracking.canvas import COLOURS, GRID, INK, OTHER, canvas, plain
from kdfuse.tracking.compare.columns import meaning, quality, title
from kdfuse.tracking.compare.front import front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = ("#1f5fbf", "#d1495b", "#2a9d8f", "#e08e0b", "#7a5195", "#6b8e23", "#c2579b", "#3aa0d1", "#8c6d46", "#5f6c7b")
SOFT = "#9aa5b1"
PAGE_COLOURS = {INK: "var(--ink)", GRID: "var(--grid)", SOFT: "var(--soft)", COLOURS["validation"]: "var(--blue)"}
MOST_NUMBERED = 60
Curves = Sequence[Sequence[float]]


def trade(rows: Sequence[Mapping[str, Any]], cost: str, quality: str, *, line: bool = True) -> "Figure | None":
    """A quality against a cost, a numbered point for each row; None where fewer than two rows have both.

    Args:
        rows: in the order of their numbers, with `front`.
        cost: the figure to the right.
        quality: the figure upwards.
        line: join the points that no other beats in these two figures.
    """
    points = {place: (row[cost], row[quality]) for place, row in enumerate(rows) if _finite(row.get(cost)) and _finite(row.get(quality))}
    if len(points) < 2:
        return None
    made, grid = canvas(1, 1, 4.4, 3.3)
    axes = grid[0][0]
    if line:
        best = sorted(points[place] for place in front(rows, [quality, cost]) if place in points)
        axes.plot(*zip(*best, strict=True), color=SOFT, linewidth=1.2, linestyle="--", zorder=1)
    for place, (x, y) in points.items():
        row = rows[place]
        colour = COLOURS["validation"] if row.get("front") else SOFT
        for name, spread in (("xerr", row.get(f"sd/{cost}")), ("yerr", row.get(f"sd/{quality}"))):
            if spread:
                axes.errorbar([x], [y], **{name: [spread]}, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2, zorder=2)
        axes.plot([x], [y], marker="o", markersize=6, color=colour, linestyle="none", gid=f"point-{place}", zorder=3)
        if len(points) <= MOST_NUMBERED:
            axes.annotate(str(place + 1), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8, color=INK)
    across = [x for x, _ in points.values()]
    if min(across) > 0 and max(across) > 20 * min(across):
        axes.set_xscale("log")
    _labels(axes, title(cost), title(quality), [y for _, y in points.values()], quality)
    axes.margins(0.1)
    return made


def curves(named: Mapping[str, Curves], measure: str) -> "Figure":
    """Curves over epochs, a line for each row: the mean of its runs, and a band of one standard deviation.

    Args:
        named: by the row's number and name, the curves of its runs.
        measure: what they are of.
    """
    from matplotlib.ticker import MaxNLocator

    made, grid = canvas(1, 1, 7.0, 3.6)
    axes = grid[0][0]
    for place, (name, runs) in enumerate(named.items()):
        length = min(len(run) for run in runs)
        columns = [[float(run[epoch]) for run in runs] for epoch in range(length)]
        means = [math.fsum(column) / len(column) for column in columns]
        epochs = list(range(1, length + 1))
        colour, style = LINES[place % len(LINES)], "-" if place < len(LINES) else "--"
        drawn = axes.plot(epochs, means, color=colour, linestyle=style, linewidth=1.6, marker="o" if length == 1 else None, markersize=3)
        label = name if len(name) <= 36 else name[:35] + "…"
        drawn[0].set_label(f" {label}" if label.startswith("_") else label)
        if len(runs) > 1:
            spreads = [math.sqrt(math.fsum((x - mean) ** 2 for x in column) / (len(column) - 1))
                       for column, mean in zip(columns, means, strict=True)]  # fmt: skip
            low, high = ([mean + sign * sd for mean, sd in zip(means, spreads, strict=True)] for sign in (-1, 1))
            axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend = made.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=INK)
    for text in legend.get_texts():
        text.set_parse_math(False)
    heights = [float(value) for runs in named.values() for run in runs for value in run]
    _labels(axes, "epoch", measure.replace("/", " ").replace("_", " "), heights, measure)
    return made


def steps(lines: Sequence[Mapping[str, Any]]) -> "Figure | None":
    """A chain, step by step: its quality, and what is left of the first line's sizes; None where there is nothing to see."""
    kept = [name for name in ("size/nonzero", "size/gzip_bytes", "cost/macs") if len(lines) > 1 and all(line.get(name) for line in lines)]
    judged = [name for name in (quality(lines), quality(lines, "test")) if name and all(_finite(line.get(name)) for line in lines)]
    if len(lines) < 2 or not kept or not judged:
        return None
    made, grid = canvas(1, 2, 8.4, 3.0)
    places = list(range(len(lines)))
    for name in judged:
        split = name.partition("/")[0]
        grid[0][0].plot(places, [line[name] for line in lines], color=COLOURS[split], linewidth=1.6, marker="o", markersize=4, label=split)
    for name, colour in zip(kept, (COLOURS["validation"], OTHER, LINES[3]), strict=False):
        shares = [line[name] / lines[0][name] for line in lines]
        grid[0][1].plot(places, shares, color=colour, linewidth=1.6, marker="o", markersize=4, label=title(name))
    grid[0][1].set_ylim(bottom=0)
    _labels(grid[0][0], "", title(judged[0]).removeprefix("validation "), [line[name] for line in lines for name in judged], judged[0])
    _labels(grid[0][1], "", "share left", [0.0, 1.0], "validation/accuracy")
    for axes in grid[0]:
        axes.set_xticks(places, [_short(str(line["model"])) for line in lines], fontsize=8)
        for label in axes.get_xticklabels():
            label.set_parse_math(False)
        axes.margins(x=0.12)
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return made


def svg(made: "Figure", texts: Mapping[str, str] | None = None) -> str:
    """A figure as an element of a page: colours by the page's, the points' texts shown where the mouse is.

    Args:
        made: the figure.
        texts: by the id of a drawn thing (`gid`), what is said of it.
    """
    import matplotlib

    written = io.StringIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kdfuse"}):
        warnings.simplefilter("ignore")  # a letter that Matplotlib's own font lacks is the page's font's
        made.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1)
    for colour, own in PAGE_COLOURS.items():
        text = text.replace(colour, own)
    for name, said in (texts or {}).items():
        text = text.replace(f'<g id="{name}">', f'<g class="point"><title>{html.escape(said)}</title>')
    return text.strip()


def _labels(axes: "Axes", across: str, up: str, heights: Sequence[float], name: str) -> None:
    from matplotlib.ticker import FuncFormatter

    known = meaning(name)
    if known is not None and known.style == "share" and heights:
        digits = 0 if max(heights) - min(heights) > 0.05 else 1
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.{digits}f} %"))
    axes.set_xlabel(across, fontsize=9, color=INK).set_parse_math(False)
    axes.set_ylabel(up, fontsize=9, color=INK).set_parse_math(False)
    axes.grid(True, color=GRID, linewidth=0.8)
    plain(axes)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
