"""Calibration: how sure a model was of what it decided, and how often it was right."""

from typing import Any, NamedTuple

import numpy as np

from kdfuse.graph.heads import probabilities
from kdfuse.measure.measure import Measured, Part
from kdfuse.measure.quality import BINS, flat_classes


class Judged(NamedTuple):
    """Decisions, one for each row, step or cell that counts.

    Attributes:
        decided: the class `[rows]`; 0 and 1 for two classes and for cells of a multilabel task.
        confidence: the probability of what was decided.
        right: whether it was right.
        weights: None, or a weight for each.
    """

    decided: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    weights: np.ndarray | None


def judged(part: Part) -> Judged | None:
    """The decisions of one output; None for a regression."""
    if part.task == "regression" or part.head == "regression":
        return None
    chances, targets, weights = probabilities(part.values, part.head), np.asarray(part.targets), part.weights
    if part.task == "multilabel":
        shape = np.shape(chances)
        weights = (
            None if weights is None else np.broadcast_to(np.reshape(weights, np.shape(weights) + (1,) * (2 - np.ndim(weights))), shape)
        )
        weights = None if weights is None else np.broadcast_to(weights, shape).reshape(-1)
        chances, targets = chances.reshape(-1), targets.reshape(-1)
    chances, labels, flat_weights = flat_classes(chances, targets, weights)
    decided = chances.argmax(axis=-1)
    return Judged(decided, chances.max(axis=-1), decided == labels, flat_weights)


def reliability(found: Judged) -> list[dict[str, Any]]:
    """A reliability diagram as rows (Guo et al., 2017, arXiv 1706.04599): bins of confidence that are not empty.

    Returns:
        For each of up to 15 bins of equal width `confidence` (mean), `accuracy` and `share` of the rows, weighted.
    """
    weights = np.ones(len(found.right)) if found.weights is None else found.weights
    bins = np.clip(np.ceil(found.confidence * BINS).astype(int) - 1, 0, BINS - 1)
    mass, confidence, right = (
        np.bincount(bins, weights=weights * value, minlength=BINS) for value in (1.0, found.confidence, found.right.astype("float64"))
    )
    return [
        {"confidence": confidence[place] / mass[place], "accuracy": right[place] / mass[place], "share": mass[place] / mass.sum()}
        for place in np.flatnonzero(mass)
    ]


def reliability_of(measured: Measured) -> list[dict[str, Any]]:
    """The reliability diagram of a model's one output on the test split, else on validation; empty where there is none."""
    parts = measured.parts.get("test") or measured.parts.get("validation") or []
    found = judged(parts[0]) if len(parts) == 1 else None
    return reliability(found) if found else []
