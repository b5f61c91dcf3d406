"""Which figures of a run are its model's, and on which data: MLflow's Models tab shows them under that data set."""

from collections.abc import Iterable, Mapping
from typing import Any

from kdfuse.report import Report, figure
from kdfuse.tracking.models import NAME
from kdfuse.tracking.names import shorten

DIGEST = 36
"""Characters that MLflow keeps of a data set's digest."""
OTHERS = ("delta", "mean", "sd", "search")
"""Figures of a difference, of several models or of a search: they are the run's alone."""


def owner(report: Report, models: Mapping[str, str]) -> str | None:
    """The logged model that a report's figures are of, among the run's models by name; None where it is none of them."""
    if NAME in models:
        return models[NAME]
    for row in report.tables.get("models", ()):
        name = str(row.get("model", "")).replace(" ", "_")
        own = {key: value for key, value in row.items() if key != "model"}
        if name in models and own and all(report.metrics.get(key) == value for key, value in own.items()):
            return models[name]
    return None


def split_of(name: str, names: Iterable[str]) -> str | None:
    """The split that a figure was measured on; that of a `.tflite` file is the test split, else validation, as `names` have it."""
    split = name.partition("/")[0]
    if split == "tflite" and figure(name) is not None:
        measured = {one.partition("/")[0] for one in names}
        return next((one for one in ("test", "validation") if one in measured), None)
    return split if split in ("train", "validation", "test") else None


def link(name: str, report: Report, model: str | None, data: tuple[str, str] | None) -> dict[str, str]:
    """What ties a figure to its model and data set: arguments of MLflow's `Metric`.

    Args:
        name: of the figure.
        report: where it is.
        model: the logged model's id; None ties it to nothing.
        data: the name and the mark of the data, where they are known.
    """
    if model is None or figure(name) is None or name.partition("/")[0] in OTHERS:
        return {}
    split = split_of(name, report.metrics)
    if split is None or data is None:
        return {"model_id": model}
    return {"model_id": model, "dataset_name": split_name(data[0], split), "dataset_digest": data[1][:DIGEST]}


def split_name(data: str, split: str) -> str:
    """What a split of a data set is called: `digits, test`."""
    return shorten(data, 240) + f", {split}"


def data_sets(links: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """The name and the digest of each data set that some figure is tied to, and its split."""
    found = {(link["dataset_name"], link["dataset_digest"]) for link in links if "dataset_name" in link}
    return {one: one[0].rpartition(", ")[2] for one in sorted(found)}
