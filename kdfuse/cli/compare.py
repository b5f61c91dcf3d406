"""`kdfuse compare EXPERIMENT`: the runs of an experiment side by side."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdfuse.cli.output import Failure

if TYPE_CHECKING:
    from kdfuse.tracking.compare.comparison import Comparison

IMPORTANT = ("model", "front", "n", "validation/.*", "test/(.*/)?(accuracy|r2|rmse)", "size/parameters", "size/tflite_bytes", "cost/macs",
             "latency/p50_ms", "delta/.*/test/.*", "size/keras_bytes", "size/nonzero", "test/.*")  # fmt: skip
"""Columns by what is kept first in a narrow terminal."""


def compare(
    experiment: Annotated[str, typer.Argument(help="The name of an MLflow experiment, as given to kdfuse.track.")],
    sort: Annotated[str | None, typer.Option(help="A figure, best first: accuracy (of validation), test/accuracy, bytes, macs ...")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only rows that fit: 'size/parameters < 50000'. Again for more.")] = None,
    columns: Annotated[str | None, typer.Option(help="What to show, with commas: test/accuracy,parameters,temperature.")] = None,
    front: Annotated[str | None, typer.Option(help="Figures of the Pareto front, with commas: accuracy,macs.")] = None,
    baseline: Annotated[str | None, typer.Option(help="A row's name: show differences to it.")] = None,
    seeds: Annotated[bool, typer.Option("--seeds", help="A row for each seed instead of mean and spread.")] = False,
    nested: Annotated[bool, typer.Option("--nested", help="Also the runs inside others: steps, trials, members.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Also write the table here, with exact values.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the table here as Markdown.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write one page here: table, plots, curves, steps of chains.")] = None,
    uri: Annotated[str | None, typer.Option(help="MLflow's tracking URI; by default where runs go.")] = None,
) -> None:
    """Compare an experiment's runs: quality, sizes, costs, differences, spread over seeds; * marks the Pareto front.

    Runs that are the same but for their seeds are one row. A bare name is a figure of the validation split, which chooses.
    """
    from kdfuse.tracking.compare.comparison import compare as compared

    try:
        found = compared(
            experiment, sort=sort, where=where or None, columns=_names(columns), front=_names(front), baseline=baseline, by_seed=seeds,
            nested=nested, uri=uri,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise Failure(str(error), 2) from error
    _show(found, chosen=columns is not None)
    for path, write in ((csv, found.to_csv), (markdown, found.to_markdown), (html, found.to_html)):
        if path is not None:
            try:
                typer.echo(f"Written: {write(path)}")
            except OSError as error:
                raise Failure(f"{path} cannot be written: {error}") from error


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _show(found: "Comparison", *, chosen: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:  # for a file or another program: as wide as it is
        typer.echo(str(found))
        return
    titles, cells = found.titles(), found.cells()
    widths = [max(len(text) for text in [*title.split(), *(line[place] for line in cells)]) for place, title in enumerate(titles)]
    places = list(range(len(found.columns))) if chosen else _fitting(found.columns, widths, console.width)
    table = Table(box=box.SIMPLE_HEAD, title=Text(found.experiment, style="bold"), title_justify="left")
    for place in places:
        table.add_column(
            Text(titles[place]), justify="right" if place else "left", overflow="fold", width=None if chosen else widths[place]
        )
    for row, line in zip(found.rows, cells, strict=True):
        table.add_row(*(Text(line[place]) for place in places), style="bold" if row["front"] else "")
    console.print(table)
    left = [title for place, title in enumerate(titles) if place not in places]
    wider = [f"No room for {', '.join(left)}: choose with --columns, or see all with --csv, --markdown or --html."] if left else []
    for line_below in [found.legend(), *found.notes, *wider]:
        if line_below:
            console.print(Text(line_below, style="dim"))


def _fitting(columns: Sequence[str], widths: Sequence[int], width: int) -> list[int]:
    """The places of the columns that fit in a line, the more important first; heads fold between words."""
    used = 1
    places: list[int] = []
    for place in sorted(range(len(columns)), key=lambda place: _importance(columns[place])):
        if used + widths[place] + 3 <= width or len(places) < 2:
            used += widths[place] + 3
            places.append(place)
    return sorted(places)


def _importance(name: str) -> int:
    return next((rank for rank, pattern in enumerate(IMPORTANT) if re.fullmatch(pattern, name)), len(IMPORTANT))
