"""The note of a run in MLflow: what it did and what came out, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdfuse.report import TABLE, Report, figure, format_cell


def note(report: Report) -> str:
    """A report as Markdown: its time, the table of models, the steps inside it, and its notes."""
    parts = [f"**{report.technique or report.name}** in {report.seconds:.1f} s"]
    if report.metrics or report.tables.get("models"):
        parts.append(table(report.rows()))
    for name, rows in report.tables.items():
        if name != "models" and any("model" in row for row in rows):
            parts.append(f"**{name}**\n\n{table(rows)}")
    if report.notes:
        parts.append("\n".join(f"- {line}" for line in report.notes))
    return "\n\n".join(part for part in parts if part)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as a Markdown table: `"model"`, then the figures that some row has, in the order of `report.TABLE`."""
    listed = list(rows)
    if columns is None:
        columns = ["model", *(name for name in (*TABLE, "validation/accuracy") if any(name in row for row in listed))]
    head = "| " + " | ".join(_title(name) for name in columns) + " |"
    rule = "|" + "|".join(" --- " if index == 0 else " ---: " for index in range(len(columns))) + "|"
    body = ["| " + " | ".join(format_cell(row, name).replace("|", "\\|") for name in columns) + " |" for row in listed]
    return "\n".join([head, rule, *body])


def _title(name: str) -> str:
    known = figure(name)
    if known is None:
        return name
    split = name.split("/", 1)[0]
    title = known.title + (" (ms)" if known.style == "ms" else "")
    return title if split not in ("train", "validation", "tflite") else f"{split} {title}"
