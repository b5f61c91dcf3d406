"""Plots of a report, as PNG files: learning curves, confusion matrices, and those of ensembles and searches."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdfuse.report import Report, figure
from kdfuse.tracking import ensemble_plots, search_plots
from kdfuse.tracking.canvas import COLOURS, GRID, INK, OTHER, canvas, literal, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENSEMBLE = {"reliability": ensemble_plots.reliability, "weights": ensemble_plots.weights, "thresholds": ensemble_plots.trade}
MOST_PANELS = 12
MOST_NUMBERED_CLASSES = 20


def draw(report: Report, folder: Path) -> list[Path]:
    """Write the plots that the report has data for.

    Args:
        report: with curves in `history`, confusion matrices in the tables `confusion/<split>`, and the tables `reliability`,
            `weights` and `thresholds` of ensembles, `trials` and `front` of searches.
        folder: made where it is missing and something is drawn.

    Returns:
        The files.
    """
    figures: dict[str, Figure] = {}
    if any(len(values) > 1 for values in report.history.values()):
        figures["learning_curves"] = learning_curves(report.history, title=report.name or report.technique)
    for name, rows in report.tables.items():
        kind, _, split = name.partition("/")
        if kind == "confusion" and rows:
            figures[name.replace("/", "_")] = confusion(rows, title=f"{report.name or report.technique}: {split or 'confusion'} split")
        elif name in ENSEMBLE and rows:
            figures[name] = ENSEMBLE[name](rows, report.name or report.technique)
    if report.tables.get("trials") and report.tables.get("front"):
        drawn = {"front": search_plots.front(report), "parallel_coordinates": search_plots.parallel(report)}
        figures |= {name: made for name, made in drawn.items() if made is not None}
    paths = []
    for name, made in figures.items():
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"{name}.png")
        literal(made)
        made.savefig(paths[-1], dpi=110)
    return paths


def learning_curves(history: Mapping[str, Sequence[float]], title: str = "") -> "Figure":
    """One panel a measure, with its training and validation curves, over epochs.

    Args:
        history: values per epoch under `train/<measure>`, `validation/<measure>`, or another name, which gets its own panel.
        title: above the panels.
    """
    from matplotlib.ticker import MaxNLocator

    panels: dict[str, dict[str, Sequence[float]]] = {}
    for name, values in history.items():
        split, _, measure = name.partition("/")
        known = split in COLOURS and measure
        panels.setdefault(measure if known else name, {})[split if known else ""] = values
    shown = dict(list(panels.items())[:MOST_PANELS])
    columns = min(len(shown), 3) if len(shown) != 4 else 2
    lines = math.ceil(len(shown) / max(columns, 1))
    made, grid = canvas(lines, columns, 4.4 * columns, 3.1 * lines + 0.5)
    for place, (measure, curves) in enumerate(shown.items()):
        axes = grid[place // columns][place % columns]
        for split, values in curves.items():
            _curve(axes, values, split, measure)
        titled = figure(measure)
        axes.set_title(titled.title if titled else measure.replace("_", " "), loc="left", fontsize=11, color=INK, fontweight="bold")
        axes.set_xlabel("epoch", fontsize=9, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True, color=GRID, linewidth=0.8)
        axes.margins(x=0.03, y=0.1)
        if len(curves) == 1 and len(set(next(iter(curves.values())))) == 1:
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))  # a constant, not a line between 0.00096 and 0.00104
        plain(axes)
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    for place in range(len(shown), lines * columns):
        grid[place // columns][place % columns].set_axis_off()
    if title:
        made.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return made


def confusion(rows: Sequence[Mapping[str, Any]], title: str = "") -> "Figure":
    """Counts of predicted against true classes; colours are shares of each true class.

    Args:
        rows: one a true class: a label under the first key whose value is no count, counts under the predicted classes' names.
        title: above the matrix.
    """
    import numpy as np

    label = next((key for key, value in rows[0].items() if isinstance(value, str)), None)
    names = [key for key in rows[0] if key != label]
    counts = np.array([[float(row.get(name) or 0) for name in names] for row in rows])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    true = [str(row[label]) for row in rows] if label is not None else [str(name) for name in names]
    side = min(max(3.6, 1.6 + 0.42 * len(names)), 11.0)
    made, grid = canvas(1, 1, side + 0.8, side)
    axes = grid[0][0]
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= MOST_NUMBERED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.55 else INK
                axes.text(column, row, f"{count:,.0f}", ha="center", va="center", fontsize=8, color=colour)
    every = max(1, math.ceil(len(names) / 40))
    turned = max(len(str(name)) for name in names) > 3
    axes.set_xticks(range(0, len(names), every), [str(name) for name in names][::every], rotation=45 if turned else 0,
                    ha="right" if turned else "center", rotation_mode="anchor" if turned else "default")  # fmt: skip
    axes.set_yticks(range(0, len(true), every), true[::every])
    axes.set_xlabel("predicted", fontsize=9, color=INK)
    axes.set_ylabel("true", fontsize=9, color=INK)
    right = counts.trace() / max(counts.sum(), 1) if counts.shape[0] == counts.shape[1] else None
    heading = title if right is None else f"{title}\n{right:.1%} of {counts.sum():,.0f} right"
    axes.set_title(heading.strip(), loc="left", fontsize=11, color=INK)
    bar = made.colorbar(picture, ax=axes, fraction=0.046, pad=0.03, format=lambda share, _: f"{share:.0%}")
    bar.set_label("share of the true class", fontsize=9, color=INK)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=8, length=0, labelcolor=INK)
    plain(axes)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return made


def _curve(axes: "Axes", values: Sequence[float], split: str, measure: str) -> None:
    points = [(epoch + 1, float(value)) for epoch, value in enumerate(values) if value is not None and math.isfinite(float(value))]
    if not points:
        return
    epochs, heights = zip(*points, strict=True)
    colour = COLOURS.get(split, OTHER)
    marker = "o" if len(points) == 1 else None
    axes.plot(epochs, heights, color=colour, linewidth=1.8, label=split or None, marker=marker, markersize=4)
    if split == "validation" and len(points) > 1:
        known = figure(f"validation/{measure}")
        if known is None and "loss" not in measure:
            return
        choose = max if known is not None and known.better == "higher" else min
        epoch, height = choose(points, key=lambda point: point[1])
        axes.plot([epoch], [height], marker="o", markersize=5, color=colour, label=f"best {height:.4g} (epoch {epoch})", linestyle="none")
