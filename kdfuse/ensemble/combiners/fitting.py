"""Weights of a mean that make its loss small: greedy selection, and convex minimisation over the simplex."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize

from kdfuse.measure.quality import flat_classes

LEAST = 1e-12
Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Of a mean of the members with weights `[members]` the loss, and its gradient."""


def objective(members: np.ndarray, targets: np.ndarray, head: str, sample_weight: Any = None) -> Loss:
    """The loss of a weighted mean as a function of the weights: log loss, of a regression the squared error.

    Args:
        members: `[members, rows, ..., classes]`: probabilities, or values of a regression.
        targets: class numbers, rows of probabilities, zeros and ones, or values.
        head: `"softmax"`, `"sigmoid"` or `"regression"`.
        sample_weight: None, or weights `[rows]` or `[rows, time]`.
    """
    if head == "regression":
        return _squared(members, np.asarray(targets), sample_weight)
    columns = members.shape[-1]
    if head == "softmax" and np.shape(targets) != members.shape[1:]:
        flat = [flat_classes(one, np.asarray(targets), sample_weight) for one in members]
        _, labels, weights = flat[0]
        chances = np.stack([one[np.arange(len(labels)), labels] for one, _, _ in flat])
        return _logarithmic(chances, np.ones(len(labels)) if weights is None else weights)
    given = members.reshape(len(members), -1).astype("float64")
    truth = np.asarray(targets, dtype="float64").reshape(-1)
    cells = _spread(sample_weight, members.shape[1:])
    if head == "softmax":
        return _logarithmic(given, truth * cells, rows=cells.sum() / columns)
    return _logarithmic(np.concatenate([given, 1 - given], axis=1), np.concatenate([truth * cells, (1 - truth) * cells]), rows=cells.sum())


def greedy(loss: Loss, count: int, rounds: int) -> np.ndarray:
    """Members taken one by one, with replacement, each the one that helps the mean most; the best number of rounds counts.

    Reference: Caruana et al., 2004.

    Returns:
        The share of the rounds in which each was taken `[members]`.
    """
    taken, best, found = np.zeros(count), np.inf, np.zeros(count)
    for chosen in range(1, rounds + 1):
        losses = [loss((taken + unit) / chosen)[0] for unit in np.eye(count)]
        place = int(np.argmin(losses))
        taken[place] += 1
        if losses[place] < best - LEAST:
            best, found = losses[place], taken / chosen
    return found


def convex(loss: Loss, count: int) -> np.ndarray:
    """The weights of least loss that are at least 0 and sum to one (sequential quadratic programming; the loss is convex)."""
    sums = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": lambda weights: np.ones(count)}
    start = np.full(count, 1 / count)
    options = {"maxiter": 500, "ftol": 1e-12}
    found = optimize.minimize(loss, start, jac=True, method="SLSQP", bounds=[(0, 1)] * count, constraints=[sums], options=options)
    weights = np.clip(found.x, 0, None)
    weights = np.where(weights < 1e-6, 0, weights)
    weights /= weights.sum()
    return weights if loss(weights)[0] <= loss(start)[0] else start


def _logarithmic(chances: np.ndarray, cells: np.ndarray, rows: float | None = None) -> Loss:
    """The mean of `-log(weights @ chances)`, each cell with its weight."""
    total = cells.sum() if rows is None else rows

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(weights @ chances, LEAST)
        return float(-(cells * np.log(mixed)).sum() / total), -(chances @ (cells / mixed)) / total

    return loss


def _squared(members: np.ndarray, targets: np.ndarray, sample_weight: Any) -> Loss:
    values = members.reshape(len(members), -1).astype("float64")
    truth, cells = targets.reshape(-1).astype("float64"), _spread(sample_weight, members.shape[1:])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        errors = weights @ values - truth
        return float((cells * errors**2).sum() / cells.sum()), 2 * (values @ (cells * errors)) / cells.sum()

    return loss


def _spread(sample_weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A weight for each cell of `shape`, flat."""
    if sample_weight is None:
        return np.ones(int(np.prod(shape)))
    weights = np.asarray(sample_weight, dtype="float64")
    return np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape).reshape(-1)
