"""`kdfuse.compare("experiment")`: the runs of an experiment as rows, and the table, the files and the page of them."""

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdfuse.home import write_atomic
from kdfuse.report import differences
from kdfuse.tracking.compare.columns import WORDS, cell, meaning, quality, resolve, title, usual
from kdfuse.tracking.compare.conditions import conditions, ordered
from kdfuse.tracking.compare.front import front as on_front
from kdfuse.tracking.compare.front import goals
from kdfuse.tracking.compare.records import Record, read
from kdfuse.tracking.compare.rows import Row, rows, text
from kdfuse.tracking.note import markdown


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """The rows of an experiment, sorted and filtered.

    Attributes:
        experiment: its name.
        rows: one mapping a row: `model`, `technique`, `n` (runs), `front`, `run`, the settings, and the figures under their full names;
            `sd/<figure>` is the sample standard deviation where a row is of several runs.
        columns: what the table shows, in order.
        sort: the figure they are sorted by; None where they are in the order of their runs.
        objectives: the figures of the Pareto front.
        notes: what a reader should know.
    """

    experiment: str
    rows: list[dict[str, Any]]
    columns: list[str]
    sort: str | None
    objectives: list[str]
    notes: list[str]
    _groups: list[Row] = dataclasses.field(repr=False, default_factory=list)
    _records: list[Record] = dataclasses.field(repr=False, default_factory=list)

    @property
    def front(self) -> list[dict[str, Any]]:
        """The rows on the Pareto front: no other row beats them in one of `objectives` without losing in another."""
        return [row for row in self.rows if row["front"]]

    def titles(self) -> list[str]:
        """The heads of the columns."""
        return [title(name) for name in self.columns]

    def cells(self) -> list[list[str]]:
        """The table's texts, a list for each row."""
        spread = any(f"sd/{name}" in row for row in self.rows for name in self.columns)
        return [[cell(row, name, spread=spread) for name in self.columns] for row in self.rows]

    def legend(self) -> str:
        """What the marks of the table mean, in one line."""
        said = [f"sorted by {title(self.sort)}"] if self.sort else []
        if self.objectives:
            said.append("* on the Pareto front of " + ", ".join(title(name) for name in self.objectives))
        if any(row["n"] > 1 for row in self.rows):
            said.append("± sample standard deviation over n runs")
        return "; ".join(said)

    def table(self) -> str:
        """The table as aligned text."""
        lines = [self.titles(), *self.cells()]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        rule = "  ".join("-" * width for width in widths)
        texts = [
            "  ".join(one.rjust(width) if place else one.ljust(width) for place, (one, width) in enumerate(zip(line, widths, strict=True)))
            for line in lines
        ]
        return "\n".join([texts[0].rstrip(), rule, *(one.rstrip() for one in texts[1:])])

    def __str__(self) -> str:
        return "\n".join([self.table(), *filter(None, [self.legend()]), *(f"- {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"Comparison of {self.experiment!r}: {len(self.rows)} rows, {len(self.front)} on the front\n{self}"

    def __len__(self) -> int:
        return len(self.rows)

    def _repr_html_(self) -> str:
        from kdfuse.tracking.compare.page import table as as_html

        return as_html(self)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the columns with their full names and exact values; `sd/<figure>` stands beside its figure. The written path."""
        names = [one for name in self.columns for one in (name, f"sd/{name}") if one in WORDS or any(one in row for row in self.rows)]
        made = io.StringIO()
        writer = csv.writer(made, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([["" if row.get(name) is None else _whole(row[name]) for name in names] for row in self.rows])
        return write_atomic(path, made.getvalue().encode())

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The table as Markdown, with its legend: written to `path`, which is returned, or as text where there is none."""
        lines = [[one.replace("<", "&lt;") for one in line] for line in self.cells()]
        parts = [f"# {text(self.experiment).replace('<', '&lt;')}", markdown(self.titles(), lines), self.legend()]
        parts.append("\n".join(f"- {note}" for note in self.notes))
        made = "\n\n".join(part for part in parts if part) + "\n"
        return made if path is None else write_atomic(path, made.encode())

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one page that needs nothing else: the table, sorted by a click, plots, curves, steps of chains. The written path."""
        from kdfuse.tracking.compare.page import page

        return write_atomic(path, page(self, self._groups, self._records).encode())


def compare(
    experiment: str,
    *,
    sort: str | None = None,
    where: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    by_seed: bool = False,
    nested: bool = False,
    baseline: str | None = None,
    front: Sequence[str] | None = None,
    uri: str | None = None,
) -> Comparison:
    """Compare the finished runs of an experiment.

    Runs that are the same but for their seeds are one row: mean, sample standard deviation, and `n`. Differences (`delta/teacher/...`)
    are to what each run was measured beside. The validation split chooses: a bare name (`accuracy`) is its figure, and the front and
    the order are by it; the figures of test (`test/accuracy`) are told.

    Args:
        experiment: MLflow's experiment, as given to `track`.
        sort: a figure or setting; best first. By default the quality on validation.
        where: conditions that rows must fit: `"size/parameters < 50000"`, `["accuracy >= 90 %", "technique == Distill"]`.
        columns: what to show beside `model`, by full or bare names; by default quality, sizes, costs and differences that some row has.
        by_seed: a row for each run instead of mean and spread.
        nested: also the runs inside others: steps of chains, trials of searches, members.
        baseline: a row's name: differences to it are told instead of those that the runs recorded.
        front: two or more figures of the Pareto front; by default quality on validation, bytes of the file (LiteRT where there is one),
            and MACs.
        uri: MLflow's tracking URI; by default where runs go.

    Returns:
        The rows; print it, or write it with `to_csv`, `to_markdown`, `to_html`.

    Raises:
        ValueError: there is no such experiment, figure or row, a condition is none, or nothing fits.

    Example:
        print(kdfuse.compare("digits", sort="test/accuracy", where="size/parameters < 50000"))
    """
    reading = read(experiment, uri)
    groups = rows(reading.records, by_seed=by_seed, nested=nested)
    if not groups:
        raise ValueError(
            f"`experiment`: expected one with finished runs that have figures. Received: experiment={experiment!r}, which has "
            f"{_told(reading.records)}. Record one: with kdfuse.track({experiment!r}): kdfuse.Train()(model, data)"
        )
    values = [row.values for row in groups]
    if baseline is not None:
        _beside(values, baseline)
    tests = conditions(where, values)
    order = resolve(sort, values, "sort") if sort is not None else quality(values)
    wanted = goals(values, front)
    shown = _columns(columns, values)
    kept = [row for row in groups if all(test.holds(row.values) for test in tests)]
    if not kept:
        given = [where] if isinstance(where, str) else list(where or [])
        raise ValueError(
            f"`where`: expected conditions that some row fits. Received: where={given!r}, and none of {len(groups)} rows does."
        )
    values = [row.values for row in kept]
    for place in on_front(values, wanted):
        values[place]["front"] = True
    places = ordered(values, order) if order is not None else list(range(len(values)))
    kept = [kept[place] for place in places]
    values = [row.values for row in kept]
    notes = list(reading.notes)
    left = sum(record.status != "finished" for record in reading.records)
    if left:
        notes.append(f"{left} of {len(reading.records)} runs did not finish, or are going on; they are left out.")
    if tests:
        notes.append(f"{len(kept)} of {len(groups)} rows fit.")
    return Comparison(experiment, values, shown or usual(values), order, wanted, notes, kept, reading.records)


def _columns(asked: Sequence[str] | str | None, values: Sequence[dict[str, Any]]) -> list[str]:
    if asked is None:
        return []
    names = asked.split(",") if isinstance(asked, str) else list(asked)
    found = [resolve(name, values, "columns") for name in names if str(name).strip()]
    if not found:
        raise ValueError(f"`columns`: expected at least one name, such as test/accuracy. Received: columns={asked!r}.")
    return list(dict.fromkeys(["model", *found]))


def _beside(values: Sequence[dict[str, Any]], baseline: str) -> None:
    """Put differences to a row in the place of those that were recorded."""
    names = [row["model"] for row in values]
    if baseline not in names:
        resolved = ", ".join(repr(name) for name in names[:30])
        raise ValueError(f"`baseline`: expected a row's name. Received: baseline={baseline!r}. The rows: {resolved}.")
    base = dict(values[names.index(baseline)])
    for row in values:
        for name in [name for name in row if name.startswith(("delta/", "sd/delta/"))]:
            del row[name]
        if row["model"] != baseline:
            figures = {name: value for name, value in row.items() if meaning(name) is not None and not name.startswith("sd/")}
            row.update(differences(baseline.replace("/", "_"), figures, base))


def _told(records: Sequence[Record]) -> str:
    if not records:
        return "no runs"
    done = sum(record.status == "finished" and record.technique != "track" for record in records)
    return f"{len(records)} runs, {done} of them finished calls of techniques, none with figures"


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
