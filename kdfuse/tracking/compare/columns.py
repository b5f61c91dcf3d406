"""Columns: what the names of a comparison mean, how they are written, and which are shown by themselves."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdfuse.report import FIGURES, QUALITY, Figure, figure, format_cell, objective
from kdfuse.settings import suggest
from kdfuse.tracking.compare.rows import text
from kdfuse.tracking.note import title as title_of

Values = Mapping[str, Any]

OWN = {
    "bytes": Figure("file bytes", "lower", "bytes"),
    "n": Figure("runs", "higher", "count"),
    "seconds": Figure("seconds", "lower", "number"),
}
"""Figures that only a comparison has. `bytes` is the model's file: LiteRT where it has one, else `.keras`."""
WORDS = ("model", "technique")
"""Columns of text."""
QUALITIES = ("accuracy", "r2", "rmse", "log_loss")
"""What a model is judged by: the first of these that was measured."""
FIXED = ("size/parameters", "size/nonzero", "size/keras_bytes", "size/tflite_bytes", "cost/macs", "latency/p50_ms", "latency/tflite_p50_ms")
DIFFERENCES = ("test/accuracy", "test/r2", "test/rmse", "size/parameters")


def meaning(name: str) -> Figure | None:
    """What a figure's name means; None where it is no figure."""
    return OWN.get(name) or figure(name)


def title(name: str) -> str:
    """The head of a column."""
    if name in OWN:
        return OWN[name].title
    # Elsewhere `accuracy` is that of test; here it stands beside that of validation.
    return f"test {title_of(name)}" if name.startswith("test/") else title_of(name).replace("tflite ", "LiteRT ")


def cell(row: Values, name: str, *, spread: bool = False) -> str:
    """What a row has in a column, as text; `spread`: other rows of the column have a standard deviation, so shares are in percent."""
    value = row.get(name)
    if spread and value is not None and row.get(f"sd/{name}") is None and (known := meaning(name)) is not None and known.style == "share":
        return f"{value * 100:{'+' if name.startswith('delta/') else ''}.1f} %"
    if name == "front":
        return "*" if value else ""
    if name == "bytes" and value is not None:
        return f"{value:,.0f}"
    if name == "seconds" and value is not None:
        return f"{value:,.1f}"
    return "" if value is None else text(value) if isinstance(value, str) else format_cell(row, name)


def resolve(name: str, rows: Iterable[Values], argument: str) -> str:
    """The full name of a column that some row has: itself, a bare figure (`accuracy` is that of validation), a setting's last part.

    Raises:
        ValueError: no row has it; the message names the near ones.
    """
    listed = list(rows)
    there = list(dict.fromkeys(key for row in listed for key in row))
    if name in there:
        return name
    asked = str(name).strip()
    try:
        full = objective(asked)
    except ValueError:
        full = ""
    if full in there:
        return full
    ends = [key for key in there if "/" not in key and key.endswith(f"__{asked}")]
    if len(ends) == 1:
        return ends[0]
    received = f"Received: {argument}={name!r}."
    if ends:
        raise ValueError(f"`{argument}`: expected one column. {received} Several settings end so: {', '.join(ends)}. Give one in full.")
    figures = [key for key in there if meaning(key) is not None and not key.startswith("sd/")]
    if full:
        raise ValueError(f"`{argument}`: expected a figure that these runs have. {received} None has {full!r}. {suggest(full, figures)}")
    names = [*WORDS, *figures, *QUALITY, *(key.split("/", 1)[1] for key in FIGURES), *(key for key in there if "/" not in key)]
    short = suggest(asked, dict.fromkeys(names))
    if short.startswith("Known"):
        short = f"Known: {', '.join(figures[:30])}."
    raise ValueError(f"`{argument}`: expected a figure or a setting of these runs. {received} {short}")


def quality(rows: Iterable[Values], split: str = "validation") -> str | None:
    """The figure of a split that models are judged by; of several outputs the mean, else the first one's."""
    there = list(dict.fromkeys(key for row in rows for key in row))
    for name in QUALITIES:
        if f"{split}/{name}" in there:
            return f"{split}/{name}"
        for key in there:
            if re.fullmatch(rf"{split}/[^/]+/{name}", key):
                return key
    return None


def usual(rows: Sequence[Values]) -> list[str]:
    """The columns of a comparison where none are asked for: those that some row has."""
    there = list(dict.fromkeys(key for row in rows for key in row))

    def of(split: str, *names: str) -> list[str]:
        return [key for name in names for key in there if key == f"{split}/{name}" or re.fullmatch(rf"{split}/[^/]+/{name}", key)]

    judged = quality(rows)
    columns = [judged] if judged else []
    columns += of("test", "accuracy", "macro_f1", "r2", "rmse") or of("test", "log_loss")
    columns += [*of("tflite", "accuracy", "rmse"), "kd/agreement", *FIXED]
    columns += [key for name in DIFFERENCES for key in there if re.fullmatch(rf"delta/[^/]+/{name}", key) and
                (name != "size/parameters" or any(row.get(key) for row in rows))]  # fmt: skip
    several = any((row.get("n") or 1) > 1 for row in rows)
    return ["model", "front", *(["n"] if several else []), *(name for name in columns if name in there)]
