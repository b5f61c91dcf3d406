"""What the stages of a cascade do with the rows of a split, and how a report tells it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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


class Costs(NamedTuple):
    """What one row costs in each stage.

    Attributes:
        each: a number for each stage.
        whole: of the model that the cascade is compared with.
        unit: `"macs"`, or `"parameters"` where MACs cannot be told of all.
    """

    each: list[float]
    whole: float
    unit: str


def costs_of(models: Sequence[keras.Model], data: Data | None = None, whole: keras.Model | None = None) -> Costs:
    """MACs of one row in each model; parameters where they cannot be counted of all.

    Args:
        models: the stages. They may take other inputs than each other, where no `data` are given.
        data: whose rows all take.
        whole: what the cascade is compared with; None for the last stage.
    """
    every = [*models, models[-1] if whole is None else whole]
    found = [count_macs(model, None if data is None else data.example(1)) for model in every]
    unit = "macs" if all(found) else "parameters"
    numbers = [float(one if unit == "macs" and one is not None else model.count_params()) for model, one in zip(every, found, strict=True)]
    return Costs(numbers[:-1], numbers[-1], unit)


def budget_of(cost: float | None, costs: Costs) -> float | None:
    """The mean cost that a row may have.

    Raises:
        ValueError: the first stage alone costs more.
    """
    if cost is not None and cost * costs.whole < costs.each[0]:
        least = costs.each[0] / costs.whole
        raise ValueError(
            f"`cost`: expected at least {least:.4g}, the share of the first stage alone. Received: {cost!r}. Allow more, or put a "
            "cheaper stage first."
        )
    return None if cost is None else cost * costs.whole


def told(
    result: Result,
    watched: Mapping[str, Stages],
    thresholds: Sequence[float],
    temperatures: Sequence[Sequence[float]] | None,
    names: Sequence[str],
    costs: Costs,
) -> None:
    """Add to a result where the rows leave, what that costs, and what other thresholds would have given."""
    if not watched:
        return
    split = "test" if "test" in watched else "validation"
    shares, (_, cost) = watched[split].shares(thresholds), watched[split].outcome(thresholds)
    result.metrics |= {f"cascade/exit_{place + 1}": float(share) for place, share in enumerate(shares)}
    result.metrics["cascade/asked"] = float(shares[-1])
    result.notes.append(f"{1 - shares[-1]:.1%} of the {split} rows leave before the last model; cost/macs is the mean over these rows.")
    if costs.unit == "macs":
        result.metrics |= {"cost/macs": cost, "cascade/macs_share": cost / costs.whole}
    else:
        result.notes[-1] = result.notes[-1].split(";")[0] + "."
        result.notes.append("MACs of the models cannot be told: costs are parameters, and there is no cost/macs.")
    result.tables["stages"] = [
        {"stage": place + 1, "model": name, costs.unit: costs.each[place]} | _row(place, watched, split, thresholds, temperatures)
        for place, name in enumerate(names)
    ]
    if "validation" in watched:
        points = [(*point, False) for point in curve(watched["validation"], thresholds, most=49)]
        points.append((float(thresholds[0]), *watched["validation"].outcome(thresholds), True))
        keys = ("threshold", "accuracy", costs.unit, "chosen")
        result.tables["thresholds"] = [dict(zip(keys, row, strict=True)) for row in points]


def _row(
    place: int,
    watched: Mapping[str, Stages],
    split: str,
    thresholds: Sequence[float],
    temperatures: Sequence[Sequence[float]] | None,
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if place < len(thresholds):
        row["threshold"] = float(thresholds[place])
    if temperatures is not None:
        row["temperature"] = float(np.mean(temperatures[place]))
    row |= {f"leave on {one}": float(stages.shares(thresholds)[place]) for one, stages in watched.items()}
    stages = watched[split]
    here = (stages.leaves(thresholds) == place) & (stages.weights > 0)
    if here.any():
        row["right of them"] = float(np.average(stages.right[place, here], weights=stages.weights[here]))
    return row


def _right(part: Predicted) -> np.ndarray:
    """The share of a row's decisions that are right `[stages, rows]`."""
    targets = np.asarray(part.targets)
    if part.head == "sigmoid":
        truth = targets.reshape(part.values.shape[1:]) > 0.5
        return ((part.values > 0.5) == truth).mean(axis=-1)  # type: ignore[no-any-return]
    labels = targets.argmax(-1) if targets.shape == part.values.shape[1:] else targets.reshape(part.values.shape[1])
    return (part.values.argmax(-1) == labels).astype("float64")  # type: ignore[no-any-return]
