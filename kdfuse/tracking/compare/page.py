"""One page of HTML that needs nothing else: the table, sorted by a click, plots, curves, and the steps of chains."""

import html
import math
from collections.abc import Sequence
from typing import Any, Protocol

from kdfuse.tracking.compare import charts
from kdfuse.tracking.compare.columns import cell, quality, title
from kdfuse.tracking.compare.records import Record
from kdfuse.tracking.compare.rows import MODEL, Row, is_seed, text
from kdfuse.tracking.compare.steps import Steps, chains
from kdfuse.tracking.compare.style import SCRIPT, STYLE

COSTS = ("bytes", "cost/macs", "latency/p50_ms")
MOST_CURVES, MOST_CHAINS, MOST_SETTINGS = 12, 12, 12
KEYS = ("model", "technique", "n", "front", "run", "seconds", "bytes")


class Shown(Protocol):
    """What a page needs of a comparison."""

    @property
    def experiment(self) -> str:
        """Its name."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, in order."""

    @property
    def front(self) -> list[dict[str, Any]]:
        """Those on the Pareto front."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""

    @property
    def notes(self) -> list[str]:
        """What a reader should know."""

    def titles(self) -> list[str]:
        """The heads of the columns."""

    def cells(self) -> list[list[str]]:
        """The texts of the table."""

    def legend(self) -> str:
        """What its marks mean."""


def page(comparison: Shown, groups: Sequence[Row], records: Sequence[Record]) -> str:
    """The whole page. Names are escaped; nothing is loaded from elsewhere.

    Args:
        comparison: the rows.
        groups: the same rows with their runs.
        records: all runs of the experiment.
    """
    name = html.escape(text(comparison.experiment))
    parts = [f"<h1>{name}</h1>", f"<p>{_count(comparison)}</p>", table(comparison)]
    parts += [f"<p class=note>{html.escape(note)}</p>" for note in comparison.notes]
    parts += _section("Quality against cost", _trades(comparison))
    parts += _section("Curves", _curves(groups, records))
    parts += _section("Chains, step by step", _chains(chains(groups[:MOST_CHAINS], records)))
    parts += _section("Settings that differ", _settings(groups))
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><meta name="color-scheme" content="light dark">'
        f"<title>{name}</title><style>{STYLE}</style>"
    )
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main><script>{SCRIPT}</script></body></html>\n'


def table(comparison: Shown) -> str:
    """The table, with the exact values for sorting, and its legend."""
    heads = ["#", *comparison.titles()]
    values = [[place + 1, *(row.get(name) for name in comparison.columns)] for place, row in enumerate(comparison.rows)]
    cells = [[str(place + 1), *line] for place, line in enumerate(comparison.cells())]
    names = ["", *comparison.columns]
    marks = ["front" if row["front"] else "" for row in comparison.rows]
    return _table(heads, cells, values, names, marks) + f"<p class=note>{html.escape(comparison.legend())}</p>"


def _table(heads: Sequence[str], cells: Sequence[Sequence[str]], values: Sequence[Sequence[Any]] = (), names: Sequence[str] = (),
           marks: Sequence[str] = ()) -> str:  # fmt: skip
    lines = []
    for place, line in enumerate(cells):
        own = values[place] if values else line
        columns = "".join(f"<td{_sortable(value)}>{html.escape(one)}</td>" for one, value in zip(line, own, strict=True))
        lines.append(f"<tr{f' class={marks[place]}' if marks and marks[place] else ''}>{columns}</tr>")
    hints = [f' title="{html.escape(name)}"' if name else "" for name in names] or [""] * len(heads)
    titles = [html.escape(one).replace(" - ", " -&nbsp;") for one in heads]
    head = "".join(f"<th{hint}>{one}</th>" for one, hint in zip(titles, hints, strict=True))
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"


def _sortable(value: Any) -> str:
    if isinstance(value, bool):
        return f" class=number data-value={int(value)}"
    if isinstance(value, int | float) and math.isfinite(value):
        return f' class=number data-value="{value!r}"'
    return "" if value is not None else " class=number"


def _count(comparison: Shown) -> str:
    runs = sum(row["n"] for row in comparison.rows)
    rows = len(comparison.rows)
    return f"{rows} row{'s' if rows != 1 else ''} of {runs} run{'s' if runs != 1 else ''}, {len(comparison.front)} on the Pareto front"


def _section(heading: str, parts: Sequence[str]) -> list[str]:
    return [f"<h2>{html.escape(heading)}</h2>", *parts] if parts else []


def _trades(comparison: Shown) -> list[str]:
    rows, parts = comparison.rows, []
    for split, said in (("validation", "On validation, which chooses; the dashed line joins the best of the two figures."),
                        ("test", "On test, which is only told.")):  # fmt: skip
        judged = quality(rows, split)
        if judged is None:
            continue
        texts = {f"point-{place}": f"{place + 1}. {row['model']}: {cell(row, judged)}" for place, row in enumerate(rows)}
        drawn = [charts.trade(rows, cost, judged, line=split == "validation") for cost in COSTS]
        pictures = [f"<figure>{charts.svg(made, texts)}</figure>" for made in drawn if made is not None]
        if pictures:
            parts.append(f"<p>{said}</p><div class=plots>{''.join(pictures)}</div>")
    if parts:
        parts.append(
            "<p class=note>Numbers are those of the rows above; blue points are on the Pareto front. Hold the mouse over a point.</p>"
        )
    return parts


def _curves(groups: Sequence[Row], records: Sequence[Record]) -> list[str]:
    histories: dict[str, list[dict[str, list[float]]]] = {}
    for place, row in enumerate(groups):
        if len(histories) == MOST_CURVES:
            break
        inside = {record.id for record in row.records if record.technique == "Repeat"}
        runs = [*row.records, *(record for record in records if record.parent in inside)]
        found = [record.report.history for record in runs if record.report is not None and record.report.history]
        if found:
            histories[f"{place + 1}. {row.values['model']}"] = found
    pictures = []
    judged = next((name for name in ("accuracy", "r2", "rmse", "mae") if _measured(histories, f"validation/{name}")), None)
    for measure in [
        f"validation/{judged}" if judged else "",
        "validation/loss",
        "" if _measured(histories, "validation/loss") else "train/loss",
    ]:
        named = _measured(histories, measure)
        if named:
            pictures.append(f"<figure>{charts.svg(charts.curves(named, measure))}</figure>")
    left = len(groups) - len(histories)
    note = [f"<p class=note>The first {MOST_CURVES} rows that have curves.</p>"] if len(histories) == MOST_CURVES and left else []
    return [f"<div class=curves>{''.join(pictures)}</div>", *note] if pictures else []


def _measured(histories: dict[str, list[dict[str, list[float]]]], measure: str) -> dict[str, list[list[float]]]:
    """The curves of a measure, by row; those that are whole numbers and no holes."""
    found = {name: [history[measure] for history in runs if _whole(history.get(measure))] for name, runs in histories.items()}
    return {name: runs for name, runs in found.items() if runs}


def _whole(values: Any) -> bool:
    return bool(values) and all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def _chains(found: Sequence[Steps]) -> list[str]:
    parts = []
    for chain in found:
        names = chain.columns()
        cells = [[cell(line, name) for name in names] for line in chain.lines]
        values = [[line.get(name) for name in names] for line in chain.lines]
        made = charts.steps(chain.lines)
        picture = f"<div class=curves><figure>{charts.svg(made)}</figure></div>" if made is not None else ""
        parts.append(f"<h3>{html.escape(chain.model)}</h3>" + _table([title(name) for name in names], cells, values, names) + picture)
    return parts


def _settings(groups: Sequence[Row]) -> list[str]:
    """The settings that differ between rows that have them."""
    names = [name for name in dict.fromkeys(name for row in groups for name in row.records[-1].settings) if not is_seed(name)]
    differ = []
    for name in names:
        held = [row.values[name] for row in groups if name in row.values and name not in KEYS]
        if len({str(value) for value in held}) > 1 and not any(MODEL.fullmatch(str(value)) for value in held):
            differ.append(name)
    if not differ:
        return []
    shown = differ[:MOST_SETTINGS]
    cells = [[str(place + 1), row.values["model"], *("" if name not in row.values else text(str(row.values[name])) for name in shown)]
             for place, row in enumerate(groups)]  # fmt: skip
    left = f"<p class=note>{len(differ) - len(shown)} more are in MLflow.</p>" if len(differ) > len(shown) else ""
    return [_table(["#", "model", *shown], cells) + left]
