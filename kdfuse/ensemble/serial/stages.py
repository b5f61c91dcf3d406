"""What the stages of a cascade do with the rows of a split, and how a report tells it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kdfuse.data import Data
from kdfuse.ensemble.predictions import Predicted
from kdfuse.ensemble.serial.confidence import confidence
from kdfuse.ensemble.serial.thresholds import Stages, curve
from kdfuse.graph.macs import count_macs
from kdfuse.technique import Result


def watch(found: Sequence[Predicted], measure: str, costs: Sequence[float]) -> Stages:
    """Confidence and accuracy of every stage on every row.

    Args:
        found: probabilities of all stages, an entry for each output.
        measure: of confidence.
        costs: of each stage for one row.
    """
    heads = [part.head for part in found]
    # In float32, as the layer computes it: a threshold lies between two rows of its own making.
    sure = [
        np.asarray(confidence(measure, [ops.convert_to_tensor(part.values[place], dtype="float32") for part in found], heads))
        for place in range(len(costs))
    ]
    right = np.mean([_right(part) for part in found], axis=0)
    weights = next((np.asarray(part.weights, dtype="float64").reshape(-1) for part in found if part.weights is not None), None)
    sums = np.ones(right.shape[1]) if weights is None else weights
    return Stages(np.stack(sure).astype("float64"), right, np.asarray(costs, dtype="float64"), sums)


def costs_of(models: Sequence[keras.Model], data: Data | None = None) -> list[float]:
    """MACs of one row in each model; parameters where MACs cannot be counted of all.

    Args:
        models: they may take other inputs than each other, where no `data` are given.
        data: whose rows all take.
    """
    found = [count_macs(model, None if data is None else data.example(1)) for model in models]
    if any(one is None or one == 0 for one in found):
        return [float(model.count_params()) for model in models]
    return [float(one) for one in found if one is not None]


def told(
    result: Result,
    watched: Mapping[str, Stages],
    thresholds: Sequence[float],
    temperatures: Sequence[Sequence[float]] | None,
    names: Sequence[str],
) -> None:
    """Add to a result where the rows leave, what that costs, and what other thresholds would have given."""
    split = "test" if "test" in watched else "validation"
    if split not in watched:
        return
    stages = watched[split]
    shares, (_, cost) = stages.shares(thresholds), stages.outcome(thresholds)
    leaves = stages.leaves(thresholds)
    result.metrics |= {"cost/macs": cost, "cascade/macs_share": cost / float(stages.costs[-1]), "cascade/asked": float(shares[-1])}
    rows = []
    for place, name in enumerate(names):
        here = leaves == place
        row: dict[str, Any] = {"stage": place + 1, "model": name, "macs": float(stages.costs[place])}
        row[f"leave on {split}"] = float(shares[place])
        if here.any():
            row["right of them"] = float(np.average(stages.right[place, here], weights=stages.weights[here]))
        if place < len(thresholds):
            row["threshold"] = float(thresholds[place])
        if temperatures is not None:
            row["temperature"] = float(np.mean(temperatures[place]))
        rows.append(row)
    result.tables["stages"] = rows
    result.notes.append(f"{1 - shares[-1]:.1%} of the {split} rows leave before the last model; cost/macs is the mean over these rows.")
    if list(stages.costs) != sorted(stages.costs):
        result.notes.append("The models do not get dearer from one to the next: a cascade of them saves little.")
    if "validation" in watched:
        points = [(*point, False) for point in curve(watched["validation"], thresholds)]
        points.append((float(thresholds[0]), *watched["validation"].outcome(thresholds), True))
        keys = ("threshold", "accuracy", "macs", "chosen")
        result.tables["thresholds"] = [dict(zip(keys, row, strict=True)) for row in points]


def _right(part: Predicted) -> np.ndarray:
    """The share of a row's decisions that are right `[stages, rows]`."""
    targets = np.asarray(part.targets)
    if part.head == "sigmoid":
        truth = targets.reshape(part.values.shape[1:]) > 0.5
        return ((part.values > 0.5) == truth).mean(axis=-1)  # type: ignore[no-any-return]
    labels = targets.argmax(-1) if targets.shape == part.values.shape[1:] else targets.reshape(part.values.shape[1])
    return (part.values.argmax(-1) == labels).astype("float64")  # type: ignore[no-any-return]
