"""Plots of searches: the trials and their Pareto front, and every trial as a line across its settings."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdfuse.report import Report, figure, objective
from kdfuse.tracking.canvas import COLOURS, GRID, INK, canvas, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
MOST_AXES = 12
STOPPED = "#cbd2d9"


def goals(report: Report) -> list[str]:
    """The full names of the figures that a search wanted more or less of, its first one first."""
    found = [objective(str(value)) for kind in ("maximize", "minimize") for name, value in report.settings.items()
             if value and name.partition("__")[0] == kind and value != "()"]  # fmt: skip
    if not found:
        names = {name for row in report.tables["trials"] for name in row}
        found = [name for name in ("validation/accuracy", "validation/r2") if name in names]
    return found


def front(report: Report) -> "Figure | None":
    """The first figure wanted against each other one (against MACs where it is the only one): all trials, and the front as a line.

    None where that one is the same for all trials.

    Args:
        report: of a search, with the tables `trials` and `front`.
    """
    from matplotlib.ticker import MaxNLocator

    wanted = goals(report)
    if not wanted:
        return None
    others = wanted[1:] or ["cost/macs"]
    trials, best = report.tables["trials"], report.tables["front"]
    others = [name for name in others if len({_number(row.get(name)) for row in trials} - {None}) > 1]
    if not others:
        return None
    made, grid = canvas(1, len(others), 5.4 * len(others), 4.0)
    for axes, other in zip(grid[0], others, strict=True):
        points = [(row.get(other), row.get(wanted[0]), row["status"]) for row in trials]
        for status, colour in (("stopped", STOPPED), ("finished", COLOURS["train"])):
            shown = [(x, y) for x, y, own in points if own == status and _number(x) is not None and _number(y) is not None]
            if shown:
                axes.plot(
                    *zip(*shown, strict=True), marker="o", markersize=4, linestyle="none", color=colour, label=f"{len(shown)} {status}"
                )
        line = sorted((row[other], row[wanted[0]]) for row in best)
        axes.plot(*zip(*line, strict=True), marker="o", markersize=5, linewidth=1.4, color=COLOURS["validation"], label="front")
        axes.plot([best[0][other]], [best[0][wanted[0]]], marker="o", markersize=8, color=COLOURS["test"], linestyle="none",
                  label=f"winner: {best[0]['model']}")  # fmt: skip
        if max(x for x, _ in line) > 20 * max(min(x for x, _ in line), 1e-9):
            axes.set_xscale("log")
        elif max(number for x, _, _ in points if (number := _number(x)) is not None) >= 10_000:
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel(_title(other), fontsize=9, color=INK)
        axes.set_ylabel(_title(wanted[0]), fontsize=9, color=INK)
        axes.grid(color=GRID, linewidth=0.8)
        axes.legend(fontsize=8, frameon=False)
        plain(axes)
    grid[0][0].set_title(report.name or report.technique, loc="left", fontsize=11, color=INK)
    return made


def parallel(report: Report) -> "Figure | None":
    """Parallel coordinates: an axis for each setting and one for the first figure wanted, a line for each trial, the better the bluer.

    Args:
        report: of a search, with the table `trials`.
    """
    wanted = goals(report)
    rows = [row for row in report.tables["trials"] if wanted and _number(row.get(wanted[0])) is not None]
    asked = {name.split("space__", 1)[1] for name in report.settings if name.startswith("space__")}
    names = [
        name for name in dict.fromkeys(name for row in rows for name in row) if any(f"{one}__".startswith(f"{name}__") for one in asked)
    ]
    names = [name for name in names if len({str(row.get(name)) for row in rows}) > 1][: MOST_AXES - 1]
    if not names or len(rows) < 2:
        return None
    made, grid = canvas(1, 1, 1.6 + 1.35 * (len(names) + 1), 4.4)
    axes = grid[0][0]
    columns = [_scaled([row.get(name) for row in rows]) for name in [*names, wanted[0]]]
    known = figure(wanted[0])
    quality = columns[-1][0] if known is None or known.better == "higher" else [1 - value for value in columns[-1][0] if value is not None]
    ranks = sorted(range(len(rows)), key=lambda place: quality[place] or 0.0)
    for order, place in enumerate(ranks):
        heights = [column[0][place] for column in columns]
        shown = [(at, height) for at, height in enumerate(heights) if height is not None]
        share = order / max(len(rows) - 1, 1)
        best = order == len(ranks) - 1
        colour = COLOURS["test"] if best else COLOURS["validation"]
        axes.plot(*zip(*shown, strict=True), color=colour, alpha=1.0 if best else 0.08 + 0.6 * share**2, linewidth=2.0 if best else 1.0)
    for at, (_, ticks) in enumerate(columns):
        axes.axvline(at, color="#9aa5b1", linewidth=0.8)
        for height, text in ticks:
            axes.text(at + 0.04, height, text, fontsize=7, color=INK, va="center")
    shorts = [name.removeprefix("build__").removeprefix("training__").replace("__", " ") for name in names]
    axes.set_xticks(range(len(columns)), [*shorts, _title(wanted[0])], fontsize=8, rotation=20, ha="right")
    axes.set_yticks([])
    axes.set_title(f"{report.name or report.technique}\n{len(rows)} trials; the best is red", loc="left", fontsize=11, color=INK)
    axes.set_xlim(-0.15, len(columns) - 0.3)
    plain(axes)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return made


def _scaled(values: Sequence[Any]) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Values between 0 and 1 (None where there is none), in the logarithm where they are wide, and ticks to read them by."""
    numbers = [_number(value) for value in values]
    if any(number is None and value is not None for number, value in zip(numbers, values, strict=True)):
        kinds = sorted({str(value) for value in values if value is not None})
        places = {kind: place / max(len(kinds) - 1, 1) for place, kind in enumerate(kinds)}
        return [None if value is None else places[str(value)] for value in values], [(places[kind], kind[:14]) for kind in kinds]
    given = [number for number in numbers if number is not None]
    low, high = min(given), max(given)
    wide = low > 0 and high / low > 20
    ends = (math.log(low), math.log(high)) if wide else (low, high)
    span = (ends[1] - ends[0]) or 1.0
    heights = [None if one is None else ((math.log(one) if wide else one) - ends[0]) / span for one in numbers]
    return heights, [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")] if low < high else [(0.0, f"{low:.3g}")]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _title(name: str) -> str:
    known = figure(name)
    split = name.partition("/")[0]
    return name if known is None else f"{split} {known.title}" if split == "validation" else known.title
