"""Plots of ensembles: reliability, member weights, accuracy against the cost of a cascade's thresholds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdfuse.tracking.canvas import COLOURS, GRID, INK, OTHER, canvas, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]


def reliability(rows: Rows, title: str = "") -> "Figure":
    """How often the model was right at each confidence, and the share of the rows in each bin; a bin of many rows has a large dot.

    Args:
        rows: with `confidence`, `accuracy` and `share`.
        title: above the plot.
    """
    made, grid = canvas(1, 1, 4.8, 4.6)
    axes = grid[0][0]
    confidence, accuracy, share = ([float(row[name]) for row in rows] for name in ("confidence", "accuracy", "share"))
    gap = sum(part * abs(one - other) for part, one, other in zip(share, accuracy, confidence, strict=True))
    axes.plot([0, 1], [0, 1], color="#9aa5b1", linewidth=1, linestyle="--", label="as sure as right")
    axes.bar(confidence, share, width=0.045, color=GRID, label="share of the rows")
    axes.plot(confidence, accuracy, color=COLOURS["validation"], linewidth=1.4, marker="o", markersize=3, label="right")
    axes.scatter(confidence, accuracy, s=[12 + 150 * part for part in share], color=COLOURS["validation"], zorder=3, clip_on=False)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_xlabel("confidence", fontsize=9, color=INK)
    axes.set_ylabel("share", fontsize=9, color=INK)
    axes.set_title(f"{title}\ncalibration error {gap:.4f}".strip(), loc="left", fontsize=11, color=INK)
    made.legend(*axes.get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside lower center", ncols=3)
    plain(axes)
    return made


def weights(rows: Rows, title: str = "") -> "Figure":
    """The weight of each member, a bar for each; for several outputs a panel for each.

    Args:
        rows: with `model` and one or more columns of numbers.
        title: above the plot.
    """
    columns = [name for name, value in rows[0].items() if name != "model" and isinstance(value, int | float)]
    made, grid = canvas(1, len(columns), 4.2 * len(columns), 1.2 + 0.34 * len(rows))
    names = [str(row["model"]) for row in rows]
    for axes, column in zip(grid[0], columns, strict=True):
        values = [float(row[column]) for row in rows]
        axes.barh(range(len(names)), values, color=OTHER, height=0.62)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        for place, value in enumerate(values):
            axes.text(value, place, f" {value:.3g}", va="center", fontsize=8, color=INK)
        axes.set_xlabel(column, fontsize=9, color=INK)
        axes.margins(x=0.15)
        plain(axes)
    grid[0][0].set_title(title, loc="left", fontsize=11, color=INK)
    return made


def trade(rows: Rows, title: str = "") -> "Figure":
    """Accuracy on validation against mean MACs, a point for each choice of thresholds; the chosen one is marked.

    Args:
        rows: with `macs`, `accuracy` and `chosen`.
        title: above the plot.
    """
    from matplotlib.ticker import MaxNLocator

    made, grid = canvas(1, 1, 5.6, 4.0)
    axes = grid[0][0]
    points = sorted((float(row["macs"]), float(row["accuracy"])) for row in rows)
    axes.plot(*zip(*points, strict=True), color=COLOURS["validation"], linewidth=1.4, marker=".", markersize=5, label="thresholds")
    for row in rows:
        if row.get("chosen"):
            said = f"chosen: {float(row['accuracy']):.4f} at {float(row['macs']):,.0f}"
            axes.plot([row["macs"]], [row["accuracy"]], marker="o", markersize=8, color=COLOURS["test"], linestyle="none", label=said)
    axes.set_xlabel("mean MACs of a row", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylabel("validation accuracy", fontsize=9, color=INK)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    plain(axes)
    return made
