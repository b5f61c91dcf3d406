"""The canvas that all plots are drawn on: colours, size, plain axes.

Figures are of their own, never through `pyplot`: its state belongs to the user.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"train": "#9aa5b1", "validation": "#1f5fbf", "test": "#d1495b"}
OTHER = "#2a9d8f"
INK, GRID = "#1f2933", "#e4e7eb"


def canvas(lines: int, columns: int, width: float, height: float) -> tuple["Figure", Any]:
    """A figure of `lines` times `columns` panels, `width` times `height` inches, and the grid of its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(made)
    return made, made.subplots(lines, columns, squeeze=False)


def plain(axes: "Axes") -> None:
    """Axes with a thin frame on two sides."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9aa5b1")
    axes.tick_params(labelsize=8, colors=INK)
    axes.set_axisbelow(True)
