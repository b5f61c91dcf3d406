"""Measure: everything a report says of one model."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.graph.heads import detect_head
from kdfuse.graph.macs import count_macs
from kdfuse.measure.latency import latency as timed
from kdfuse.measure.predict import Pass, one_pass, runner
from kdfuse.measure.predict import predict as predict
from kdfuse.measure.quality import agreement, confusion, quality
from kdfuse.measure.size import size

EXAMPLE_ROWS, MOST_CLASSES = 64, 100
MEANS = ("accuracy", "macro_f1")


@dataclasses.dataclass
class Measured:
    """What was measured of one model.

    Attributes:
        metrics: figures under the names of `kdfuse.report`.
        tables: `confusion/<split>` for a single output of up to 100 classes.
        outputs: for each split what the model gave, in NumPy.
        head: of the model, or a structure for several outputs.
        marks: for each split a mark that is equal where rows and order are: outputs can then be compared row by row.
        parts: for each split its outputs one by one, each with what it is judged by.
        name: of the model.
    """

    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    outputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    head: Any = "auto"
    marks: dict[str, str] = dataclasses.field(default_factory=dict)
    parts: dict[str, list["Part"]] = dataclasses.field(default_factory=dict)
    name: str = ""


class Part(NamedTuple):
    """One output of a model on a split: its name (empty for a single one), values, targets, weights or None, task and head."""

    label: str
    values: np.ndarray
    targets: np.ndarray
    weights: Any
    task: str
    head: str


def measure(
    model: keras.Model,
    data: Data,
    *,
    splits: Sequence[str] = ("validation", "test"),
    latency: bool = True,
    head: Any = "auto",
    name: str = "",
) -> Measured:
    """Measure quality on splits, size, cost and latency. The model is left as it was; each split is read once.

    Args:
        model: a model, compiled or not.
        data: where quality is measured; a split that it does not have is left out.
        splits: of `"train"`, `"validation"`, `"test"`.
        latency: whether to time it (half a second).
        head: `"auto"`, one of `kdfuse.graph.heads.HEADS`, or a structure for several outputs.
        name: of the model; its own by default.

    Returns:
        `test/accuracy` and so on, `size/*`, `cost/macs`, `latency/*`. For several outputs `test/<output>/accuracy` and so on; then
        `test/accuracy` and `test/macro_f1` are the means over the outputs that have them. What cannot be told is missing.

    Raises:
        ValueError: the outputs are not finite or do not fit the labels, or the declared head contradicts the model.
    """
    example = data.example(EXAMPLE_ROWS)
    found = Measured(head=detect_head(model, data.task, example, head), name=name or model.name)
    run = runner(model)
    for split_name in splits:
        split = data.split(split_name)
        if split is None:
            continue
        done = one_pass(model, split, run=run)
        found.outputs[split_name], found.marks[split_name] = done.outputs, done.mark
        found.parts[split_name] = parts_of(model, done, data, found.head)
        figures, table = told(found.parts[split_name], data)
        found.metrics |= {f"{split_name}/{figure}": value for figure, value in figures.items()}
        if table:
            found.tables = {f"confusion/{split_name}": table}
    found.metrics |= size(model)
    macs = count_macs(model, example)
    if macs is not None:
        found.metrics["cost/macs"] = float(macs)
    if latency:
        found.metrics |= timed(model, example)
    return found


def parts_of(model: keras.Model, done: Pass, data: Data, head: Any) -> list[Part]:
    """The outputs of one pass over a split, each with what it is judged by.

    Args:
        model: whose outputs they are, or what a file was made from; it gives their names.
        done: outputs, targets, weights and masks.
        data: the task.
        head: of the model, or a structure for several outputs.
    """
    found = _outputs(model, done.outputs, done.targets, done.weights, done.masks, data.task, head)
    return [Part(*one) for one in found]


def told(rows: Sequence[Part], data: Data, table: bool = True) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The figures of quality of the outputs on a split, and its confusion table.

    Args:
        rows: from `parts_of`.
        data: the names of the classes.
        table: whether the table is wanted.

    Returns:
        `accuracy` and so on; for several outputs `<output>/accuracy` and the means. The table is empty where there is none.
    """
    found: dict[str, float] = {}
    figures: dict[str, list[float]] = {}
    for label, output, target, weights, task, one_head in rows:
        for figure, value in quality(output, target, one_head, task, weights).items():
            found[f"{label}/{figure}" if label else figure] = value
            figures.setdefault(figure, []).append(value)
    if any(row[0] for row in rows):
        means = figures if len(rows) == 1 else [figure for figure in MEANS if figure in figures]
        found |= {figure: float(np.mean(figures[figure])) for figure in means}
    if not table or len(rows) != 1 or not _has_table(rows[0]):
        return found, []
    _, output, target, _, _, one_head = rows[0]
    return found, confusion(output, target, one_head, data.class_names)


def agreement_with(measured_a: Measured, measured_b: Measured) -> dict[str, float]:
    """`kd/agreement`: the share of rows of the test split, else of validation, on which two models decide alike.

    For several outputs the mean over those of classes. Empty where there is none, and where a stream gave the two
    models its rows in different orders.

    Args:
        measured_a: one model.
        measured_b: the other, measured on the same data.
    """
    for split in ("test", "validation"):
        if split in measured_a.outputs and measured_a.marks.get(split) == measured_b.marks.get(split, ""):
            pairs = [_flat(one.outputs[split], one.head) for one in (measured_a, measured_b)]
            if len(pairs[0]) != len(pairs[1]):
                return {}
            shares = [agreement(*a, *b) for a, b in zip(*pairs, strict=True)]
            known = [share for share in shares if share is not None]
            return {"kd/agreement": float(np.mean(known))} if known else {}
    return {}


def mean_agreement(measured: Measured, others: Sequence[Measured]) -> dict[str, float]:
    """`kd/agreement`, the mean over several other models; empty where it cannot be told of one of them."""
    found = [agreement_with(measured, other) for other in others]
    return {"kd/agreement": float(np.mean([one["kd/agreement"] for one in found]))} if found and all(found) else {}


def _flat(outputs: Any, head: Any) -> list[tuple[Any, str]]:
    flat = keras.tree.flatten(outputs)
    heads = [head] * len(flat) if isinstance(head, str) else keras.tree.flatten(head)
    return list(zip(flat, heads, strict=True))


def _has_table(row: tuple[Any, ...]) -> bool:
    _, output, target, _, task, _ = row
    return task in ("classification", "binary") and output.ndim == 2 and output.shape[-1] <= MOST_CLASSES and len(target) > 0


def _outputs(
    model: keras.Model, outputs: Any, targets: Any, weights: Any, masks: list[Any], task: Any, head: Any
) -> Iterator[tuple[Any, ...]]:
    """For each output its name, values, targets, weights, task and head."""
    if not keras.tree.is_nested(outputs):
        yield "", outputs, _single(targets), _with_mask(_single(weights), masks[0], _single(targets)), _single(task), _single(head)
        return
    if isinstance(outputs, dict):
        names, keys = sorted(outputs), sorted(outputs)
    else:
        known = getattr(model, "output_names", None) or []
        names = list(known) if len(set(known)) == len(outputs) else [str(place) for place in range(len(outputs))]
        keys = list(range(len(outputs)))
    for place, (name, key) in enumerate(zip(names, keys, strict=True)):
        target = _part("targets", targets, name, place, len(names))
        weight = _part("weights", weights, name, place, len(names)) if keras.tree.is_nested(weights) else weights
        one_task = task if isinstance(task, str) else _part("task", task, name, place, len(names))
        one_head = head if isinstance(head, str) else head[key]
        yield name, outputs[key], target, _with_mask(weight, masks[place], target), one_task, one_head


def _single(value: Any) -> Any:
    """The one leaf of what may be a structure of one."""
    flat = keras.tree.flatten(value)
    return flat[0] if keras.tree.is_nested(value) and len(flat) == 1 else value


def _part(argument: str, structure: Any, name: str, place: int, count: int) -> Any:
    if isinstance(structure, dict) and name in structure:
        return structure[name]
    if isinstance(structure, list | tuple) and len(structure) == count:
        return structure[place]
    received = sorted(structure) if isinstance(structure, dict) else type(structure).__name__
    raise ValueError(f"`data`: expected {argument} for each of the {count} outputs, one of them {name!r}. Received: {received}.")


def _with_mask(weights: Any, mask: Any, targets: Any) -> Any:
    """Weights for each step where the model masks steps."""
    if mask is None or mask.ndim < 2 or mask.shape != np.shape(targets)[: mask.ndim]:
        return weights
    steps = mask.astype("float64")
    if weights is None:
        return steps
    return steps * np.reshape(weights, np.shape(weights) + (1,) * (steps.ndim - np.ndim(weights)))
