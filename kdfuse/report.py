"""Reports: what a technique measured, under one vocabulary, as a table a person can read."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kdfuse.settings import suggest

Row = Mapping[str, Any]


class Figure(NamedTuple):
    """What a metric's name means: its short title, whether more is better, and how it is printed."""

    title: str
    better: Literal["higher", "lower"]
    style: Literal["share", "number", "count", "bytes", "ms"]


QUALITY = {
    "accuracy": Figure("accuracy", "higher", "share"),
    "macro_f1": Figure("macro F1", "higher", "share"),
    "log_loss": Figure("log loss", "lower", "number"),
    "ece": Figure("calibration error", "lower", "share"),
    "mae": Figure("mean absolute error", "lower", "number"),
    "rmse": Figure("root mean squared error", "lower", "number"),
    "r2": Figure("R2", "higher", "share"),
}
"""Figures of a split: written `validation/accuracy`, `test/accuracy`, `tflite/accuracy`."""

FIGURES = {
    "size/parameters": Figure("parameters", "lower", "count"),
    "size/nonzero": Figure("nonzero", "lower", "count"),
    "size/keras_bytes": Figure("bytes", "lower", "bytes"),
    "size/gzip_bytes": Figure("gzip bytes", "lower", "bytes"),
    "size/unique": Figure("unique values", "lower", "count"),
    "size/huffman_bytes": Figure("Huffman bytes", "lower", "bytes"),
    "size/tflite_bytes": Figure("LiteRT bytes", "lower", "bytes"),
    "size/tflite_gzip_bytes": Figure("LiteRT gzip bytes", "lower", "bytes"),
    "size/integer_share": Figure("integer operations", "higher", "share"),
    "cost/macs": Figure("MACs", "lower", "count"),
    "latency/p50_ms": Figure("latency", "lower", "ms"),
    "latency/p95_ms": Figure("latency p95", "lower", "ms"),
    "latency/tflite_p50_ms": Figure("LiteRT latency", "lower", "ms"),
    "latency/tflite_p95_ms": Figure("LiteRT latency p95", "lower", "ms"),
    "tflite/agreement": Figure("agreement", "higher", "share"),
    "quantization/difference": Figure("difference to the file", "lower", "number"),
    "cluster/most_values": Figure("values of a kernel", "lower", "count"),
    "prune/sparsity": Figure("sparsity", "higher", "share"),
    "shrink/units": Figure("units left", "lower", "share"),
    "shrink/parameters": Figure("parameters left", "lower", "share"),
    "shrink/macs": Figure("MACs left", "lower", "share"),
    "kd/agreement": Figure("agreement", "higher", "share"),
    "ensemble/disagreement": Figure("disagreement", "higher", "share"),
    "ensemble/double_fault": Figure("double fault", "lower", "share"),
    "ensemble/oracle": Figure("some member right", "higher", "share"),
    "gate/importance_variation": Figure("variation of the weights", "lower", "number"),
    "gate/load_variation": Figure("variation of the load", "lower", "number"),
    "gate/effective_members": Figure("members listened to", "lower", "number"),
    "soup/members": Figure("models in the soup", "higher", "count"),
    "boost/members": Figure("boosted members", "higher", "count"),
    "ensemble/oob_accuracy": Figure("out-of-bag accuracy", "higher", "share"),
    "cascade/macs_share": Figure("share of the last model's MACs", "lower", "share"),
    "cascade/asked": Figure("rows that ask the last model", "lower", "share"),
    "calibrate/temperature": Figure("temperature", "lower", "number"),
    "search/trials": Figure("trials", "higher", "count"),
    "search/failed": Figure("failed trials", "lower", "count"),
    "search/stopped": Figure("stopped trials", "higher", "count"),
    "search/epochs": Figure("epochs of all trials", "lower", "count"),
    "ensemble/error_correlation": Figure("error correlation", "lower", "number"),
}
"""Figures of a model as a whole."""

SPLITS = ("train", "validation", "test", "tflite")
TABLE = ("test/accuracy", "test/macro_f1", "test/log_loss", "test/rmse", "test/r2", "tflite/accuracy", "kd/agreement", "size/parameters",
         "size/keras_bytes", "size/tflite_bytes", "cost/macs", "latency/p50_ms", "latency/tflite_p50_ms")  # fmt: skip
"""The columns of a comparison, in order; those that no row has are left out."""


def figure(name: str) -> Figure | None:
    """The meaning of a metric's name, or None where the vocabulary does not have it.

    For several outputs a quality figure carries the output's name: `test/digit/accuracy`. `delta/<baseline>/<name>`
    is the difference to a baseline in `<name>`, `mean/<name>` its mean over several models, `sd/<name>` its standard deviation.
    """
    if name in FIGURES:
        return FIGURES[name]
    if name.startswith("mean/"):
        return figure(name.removeprefix("mean/"))
    if name.startswith("sd/"):
        known = figure(name.removeprefix("sd/"))
        return known and known._replace(better="lower")
    if name.startswith("delta/"):
        parts = name.split("/", 2)
        return figure(parts[2]) if len(parts) == 3 else None
    split, _, rest = name.partition("/")
    return QUALITY.get(rest.rsplit("/", 1)[-1]) if split in SPLITS else None


def objective(name: str) -> str:
    """The full name that a bare name stands for as an objective: `accuracy` is `validation/accuracy`.

    Raises:
        ValueError: the vocabulary has no such name.
    """
    if figure(name) is not None:
        return name
    if name in QUALITY:
        return f"validation/{name}"
    for full in FIGURES:
        if full.split("/", 1)[1] == name:
            return full
    known = [*QUALITY, *(full.split("/", 1)[1] for full in FIGURES)]
    raise ValueError(f"{name!r} is not a figure that kdfuse measures. {suggest(name, known)}")


@dataclasses.dataclass
class Report:
    """What one call of a technique did and measured.

    Attributes:
        technique: the technique's name, for example `"Distill"`.
        settings: its settings under their flat names.
        metrics: figures under the vocabulary of this module: `validation/accuracy`, `size/parameters`, `delta/teacher/test/accuracy`.
        history: per epoch, a list for each curve: `train/loss`, `validation/loss`, `train/accuracy`, each loss term.
        tables: rows under a name; `"models"` holds the model beside its baselines (teacher, control).
        files: files that belong to the result, by kind (`"tflite"`).
        notes: sentences a reader should know: what was detected, what was not done and why.
        seconds: wall time of the call.
        children: reports of the techniques that ran inside this one.
        name: the name of the run.
    """

    technique: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    files: dict[str, Path] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    children: list["Report"] = dataclasses.field(default_factory=list)
    name: str = ""

    def __getitem__(self, name: str) -> float:
        """The figure `name`, in full (`test/accuracy`) or bare (`accuracy` on the validation split)."""
        full = name if name in self.metrics else objective(name)
        if full not in self.metrics:
            raise KeyError(f"The report has no {full!r}. It has: {', '.join(sorted(self.metrics))}.")
        return self.metrics[full]

    def rows(self) -> list[dict[str, Any]]:
        """The model and its baselines, one row each, for a comparison."""
        return self.tables.get("models") or [{"model": self.name or self.technique, **self.metrics}]

    def __str__(self) -> str:
        lines = [f"{self.name or self.technique}: {self.seconds:.1f} s"]
        lines += [format_table(self.rows())]
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines)

    def to_json(self) -> str:
        """The whole report as JSON, read back by `from_json`."""
        return json.dumps(dataclasses.asdict(self), default=_plain, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """A report from what `to_json` wrote."""
        return cls._from_dict(json.loads(text))

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> "Report":
        values = dict(values)
        values["files"] = {kind: Path(path) for kind, path in values.get("files", {}).items()}
        values["children"] = [cls._from_dict(child) for child in values.get("children", [])]
        return cls(**values)


def best(metrics: Sequence[Mapping[str, float]]) -> tuple[int, str]:
    """The place of the best on the validation split and how it was chosen; the last where that was not measured."""
    for name in ("accuracy", "r2", "rmse", "log_loss"):
        values = [one.get(f"validation/{name}", math.nan) for one in metrics]
        if len(values) > 1 and all(map(math.isfinite, values)):
            chosen = max(values) if QUALITY[name].better == "higher" else min(values)
            return values.index(chosen), "the best on validation"
    return len(metrics) - 1, "the last"


def means(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`mean/<name>` for every figure of a split that all have."""
    names = [name for name in metrics[0] if figure(name) is not None and name.partition("/")[0] in SPLITS]
    common = [name for name in names if all(name in one for one in metrics)]
    return {f"mean/{name}": sum(one[name] for one in metrics) / len(metrics) for name in common}


def without_deltas(metrics: Mapping[str, float]) -> dict[str, float]:
    """The figures of a model by itself, without differences to baselines."""
    return {name: value for name, value in metrics.items() if not name.startswith("delta/")}


def differences(baseline: str | None, ours: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """`delta/<baseline>/<name>` for every figure both have, except latencies, which are told as they are."""
    names = [name for name in ours if name in other and not name.startswith(("latency/", "delta/")) and figure(name) is not None]
    return {f"delta/{baseline}/{name}": ours[name] - other[name] for name in names} if baseline else {}


def paired(baseline: str, row: str) -> str | None:
    """What the difference of a row to a baseline is called; None where the baseline is that of another row: `control 1` of `student 2`."""
    name, _, number = baseline.rpartition(" ")
    if not number.isdigit():
        return baseline
    return name if row.rpartition(" ")[2] == number else None


def format_cell(row: Row, name: str) -> str:
    """The value `name` of a row as text; with its standard deviation where the row has one: `97.2 ± 0.3 %`."""
    value, spread = row.get(name), row.get(f"sd/{name}")
    known = figure(name)
    if value is None or spread is None or known is None:
        return format_figure(name, value)
    sign, unit, times = "+" if name.startswith("delta/") else "", "", 1.0
    if known.style == "share":
        unit, times = " %", 100.0
    if known.style != "share" and not spread:
        return format_figure(name, value)
    spread = float(spread) * times
    if known.style == "share":
        places = 2 if 0 < spread < 0.1 else 1
    else:  # two digits of the spread, and as many places of the mean
        places = 0 if known.style in ("count", "bytes") else max(0, 1 - math.floor(math.log10(spread)))
    return f"{float(value) * times:{sign},.{places}f} ± {spread:,.{places}f}{unit}"


def format_figure(name: str, value: Any) -> str:
    """A value as text, in the style of its figure."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    known = figure(name)
    if known is None or isinstance(value, str):
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    sign = "+" if name.startswith("delta/") else ""
    if known.style in ("count", "bytes"):
        return f"{value:{sign},.0f}"
    return f"{value:{sign}.4f}" if known.style == "share" else f"{value:{sign}.4g}"


def format_table(rows: Iterable[Row], columns: Sequence[str] | None = None) -> str:
    """Rows as an aligned text table.

    Args:
        rows: mappings; `"model"` names the row, other keys are metric names.
        columns: the keys to show, in order. By default `"model"` and those of `TABLE` that some row has.

    Returns:
        Lines joined by newlines: a header, then a line for each row. Numbers are right-aligned.
    """
    listed = list(rows)
    if columns is None:
        columns = ["model", *(name for name in TABLE if any(name in row for row in listed))]
    titles = [_title(name) for name in columns]
    cells = [[format_cell(row, name) for name in columns] for row in listed]
    widths = [max(len(line[i]) for line in [titles, *cells]) for i in range(len(columns))]

    def line(texts: Sequence[str]) -> str:
        parts = [text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(texts, widths, strict=True))]
        return "  ".join(parts).rstrip()

    return "\n".join([line(titles), "  ".join("-" * width for width in widths), *map(line, cells)])


def _title(name: str) -> str:
    known = figure(name)
    if known is None:
        return name
    if name.startswith("delta/"):
        _, baseline, rest = name.split("/", 2)
        return f"{_title(rest)} - {baseline}"
    if name.startswith(("mean/", "sd/")):
        kind, _, rest = name.partition("/")
        return f"{kind} {_title(rest)}"
    split, *outputs = name.split("/")[:-1]
    title = known.title + (" (ms)" if known.style == "ms" else "")
    return " ".join([*([split] if split in ("train", "validation", "tflite") else []), *outputs, title])


def _plain(value: Any) -> Any:
    # NumPy's numbers must come back as numbers.
    return value.tolist() if hasattr(value, "tolist") else str(value)
