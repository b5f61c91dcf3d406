"""The note of a run in MLflow: what it did and what came out, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdfuse.report import SPLITS, TABLE, Report, figure, format_cell


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
    return markdown([title(name) for name in columns], [[format_cell(row, name) for name in columns] for row in listed])


def markdown(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Texts as a Markdown table; the first column is left-aligned, the others are right-aligned."""
    rule = "|" + "|".join(" --- " if index == 0 else " ---: " for index in range(len(titles))) + "|"
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join(["| " + " | ".join(titles) + " |", rule, *body])


def title(name: str) -> str:
    """The head of a column: `validation accuracy`, `accuracy - teacher`; a name that is no figure stays as it is."""
    known = figure(name)
    if known is None:
        return name
    if name.startswith("delta/"):
        _, baseline, rest = name.split("/", 2)
        return f"{title(rest)} - {baseline}"
    split, *outputs = name.split("/")[:-1]
    words = [*([split] if split in ("train", "validation", "tflite") else []), *(outputs if split in SPLITS else [])]
    return " ".join([*words, known.title + (" (ms)" if known.style == "ms" else "")])
