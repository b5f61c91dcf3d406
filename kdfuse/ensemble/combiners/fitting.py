"""Weights of a mean that make its loss small: greedy selection, and convex minimisation over the simplex."""

import abc
from typing import Any

import numpy as np
from scipy import optimize

from kdfuse.measure.quality import flat_classes

LEAST = 1e-12
BETTER = 1 - 1e-9


class Loss(abc.ABC):
    """Of a mean of the members with weights `[members]` the loss, and its gradient.

    Args:
        parts: `[members, cells]`, what is averaged.
        cells: the weight of each cell.
        total: what the sum over the cells is divided by.
    """

    def __init__(self, parts: np.ndarray, cells: np.ndarray, total: float) -> None:
        # `compress` and not an index: rows that lie together are read three times as fast.
        self.parts, self.cells, self.total = np.compress(cells > 0, parts, axis=1), cells[cells > 0], total

    def __call__(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = weights @ self.parts
        return self.of(mixed), self.parts @ self.slope(mixed)

    @abc.abstractmethod
    def of(self, mixed: np.ndarray) -> float:
        """The loss of a mean `[cells]`."""

    @abc.abstractmethod
    def slope(self, mixed: np.ndarray) -> np.ndarray:
        """Its derivative by each cell."""


class LogLoss(Loss):
    """`-log` of the mean, each cell with its weight."""

    def of(self, mixed: np.ndarray) -> float:
        return float(-(self.cells @ np.log(np.maximum(mixed, LEAST))) / self.total)

    def slope(self, mixed: np.ndarray) -> np.ndarray:
        return -self.cells / np.maximum(mixed, LEAST) / self.total


class SquaredError(Loss):
    """The square of the mean's distance to `truth`, each cell with its weight."""

    def __init__(self, parts: np.ndarray, cells: np.ndarray, truth: np.ndarray) -> None:
        super().__init__(parts, cells, cells.sum())
        self.truth = truth[cells > 0]

    def of(self, mixed: np.ndarray) -> float:
        return float(self.cells @ (mixed - self.truth) ** 2 / self.total)

    def slope(self, mixed: np.ndarray) -> np.ndarray:
        return 2 * self.cells * (mixed - self.truth) / self.total


def objective(members: np.ndarray, targets: np.ndarray, head: str, sample_weight: Any = None) -> Loss:
    """The loss of a weighted mean as a function of the weights: log loss, of a regression the squared error.

    Args:
        members: `[members, rows, ..., classes]`: probabilities, or values of a regression.
        targets: class numbers, rows of probabilities, zeros and ones, or values.
        head: `"softmax"`, `"sigmoid"` or `"regression"`.
        sample_weight: None, or weights `[rows]` or `[rows, time]`.

    Raises:
        ValueError: predictions that are not finite.
    """
    wrong = [place + 1 for place, one in enumerate(members) if not np.isfinite(one).all()]
    if wrong:
        raise ValueError(f"`model`: expected finite predictions on the validation split. Received: NaN or infinity from members {wrong}.")
    targets, shape = np.asarray(targets), members.shape[1:]
    if head == "softmax" and targets.shape != shape:
        flat = [flat_classes(one, targets, sample_weight) for one in members]
        _, labels, weights = flat[0]
        chances = np.stack([one[np.arange(len(labels)), labels] for one, _, _ in flat]).astype("float64")
        cells = np.ones(len(labels)) if weights is None else weights
        return LogLoss(chances, cells, cells.sum())
    if head == "sigmoid" and targets.shape != shape and shape[-1] == 1 and targets.shape == (*shape[:-1], 2):
        targets = targets.argmax(axis=-1)  # no and yes, one-hot
    parts, cells = members.reshape(len(members), -1).astype("float64"), _spread(sample_weight, shape)
    truth = targets.reshape(-1).astype("float64")
    if head == "regression":
        return SquaredError(parts, cells, truth)
    if head == "softmax":
        return LogLoss(parts, truth * cells, cells.sum() / shape[-1])
    return LogLoss(np.concatenate([parts, 1 - parts], axis=1), np.concatenate([truth * cells, (1 - truth) * cells]), cells.sum())


def greedy(loss: Loss, count: int, rounds: int) -> np.ndarray:
    """Members taken one by one, with replacement, each the one that helps the mean most; the best number of rounds counts.

    Reference: Caruana et al., 2004.

    Returns:
        The share of the rounds in which each was taken `[members]`.
    """
    taken, best, found, total = np.zeros(count), np.inf, np.zeros(count), np.zeros(loss.parts.shape[1])
    for chosen in range(1, rounds + 1):
        losses = [loss.of((total + part) / chosen) for part in loss.parts]
        place = int(np.argmin(losses))
        taken[place] += 1
        total += loss.parts[place]
        if losses[place] < best * BETTER:
            best, found = losses[place], taken / chosen
    return found


def convex(loss: Loss, count: int) -> np.ndarray:
    """The weights of least loss that are at least 0 and sum to one (sequential quadratic programming; the loss is convex)."""
    sums = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": lambda weights: np.ones(count)}
    options = {"maxiter": 500, "ftol": 1e-12}
    weights = min([np.full(count, 1 / count), *np.eye(count)], key=lambda given: loss.of(given @ loss.parts))
    value = loss.of(weights @ loss.parts)
    for _ in range(10 if value > 0 else 0):
        # In units of the loss where it stands: the solver stops at a fixed difference.
        found = optimize.minimize(
            lambda given, unit: tuple(one / unit for one in loss(given)), weights, args=(value,), jac=True, method="SLSQP",
            bounds=[(0, 1)] * count, constraints=[sums], options=options,
        )  # fmt: skip
        new = np.where(found.x < 1e-6, 0, found.x)
        new /= new.sum()
        if not loss.of(new @ loss.parts) < value * BETTER:
            break
        weights, value = new, loss.of(new @ loss.parts)
    return weights


def _spread(sample_weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A weight for each cell of `shape`, flat."""
    if sample_weight is None:
        return np.ones(int(np.prod(shape)))
    weights = np.asarray(sample_weight, dtype="float64")
    return np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape).reshape(-1)
