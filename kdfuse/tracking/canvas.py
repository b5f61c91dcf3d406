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


def literal(made: "Figure") -> None:
    """Show texts as they are: a name with dollar signs is no formula, and a broken formula would fail the plot.

    Numbers at the ticks stay, which Matplotlib writes as formulas itself.
    """
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    texts = list(made.texts) if made._suptitle is None else [made._suptitle, *made.texts]  # type: ignore[attr-defined]
    for axes in made.axes:
        legend = axes.get_legend()
        texts += [axes.title, axes._left_title, axes._right_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]  # type: ignore[attr-defined]
        texts += legend.get_texts() if legend is not None else []
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter):
                texts += axis.get_ticklabels()
    for text in texts:
        text.set_parse_math(False)
