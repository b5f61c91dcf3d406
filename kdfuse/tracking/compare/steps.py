"""What each step of a chain cost and gained: its model beside the one before it."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kdfuse.report import differences
from kdfuse.tracking.compare.records import Record
from kdfuse.tracking.compare.rows import Row, moments, text

COLUMNS = ("validation/accuracy", "test/accuracy", "validation/rmse", "test/rmse", "tflite/accuracy", "size/parameters", "size/nonzero",
           "size/gzip_bytes", "size/keras_bytes", "size/tflite_bytes", "cost/macs", "latency/p50_ms")  # fmt: skip
CHANGES = ("test/accuracy", "test/rmse", "size/nonzero", "size/gzip_bytes", "cost/macs")
"""Figures whose change from step to step is told."""


class Steps(NamedTuple):
    """A chain: its row's name, and a line for its input (where a run made it) and for each step, with `delta/previous/<figure>`."""

    model: str
    lines: list[dict[str, Any]]

    def columns(self) -> list[str]:
        """The columns that some line has."""
        names = ["model", *COLUMNS, *(f"delta/previous/{name}" for name in CHANGES)]
        return [name for name in names if any(line.get(name) is not None for line in self.lines)]


def chains(rows: Iterable[Row], records: Sequence[Record]) -> list[Steps]:
    """The chains among rows; over several seeds the means of each step."""
    known = {record.id: record for record in records}
    found = []
    for row in rows:
        if row.values.get("technique") not in ("Chain", "Repeat"):
            continue
        inner = [one for record in row.records for one in _chains_of(record, records)]
        told = [lines for one in inner if (lines := _lines(one, known))]
        if told:
            found.append(Steps(row.values["model"], _together(told)))
    return found


def _chains_of(record: Record, records: Sequence[Record]) -> list[Record]:
    if record.technique == "Chain":
        return [record]
    return [one for one in records if one.parent == record.id and one.technique == "Chain"]


def _lines(record: Record, known: Mapping[str, Record]) -> list[dict[str, Any]]:
    report = record.report
    lines = [dict(line) for line in (report.tables.get("steps") or [])] if report is not None else []
    if not lines:
        return []
    before = known.get(record.tags.get("model_run", ""))
    if before is not None:
        lines.insert(0, {"model": f"input: {text(before.name)}", **before.metrics})
    for earlier, own in itertools.pairwise(lines):
        own.update(differences("previous", own, {key: value for key, value in earlier.items() if key != "model"}))
    return lines


def _together(told: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    alike = [lines for lines in told if len(lines) == len(told[0])]
    return [{"model": text(str(place[0]["model"])), **moments(place)} for place in zip(*alike, strict=True)]
