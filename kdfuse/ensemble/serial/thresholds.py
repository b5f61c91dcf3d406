"""Thresholds of a cascade: when to stop asking, for a wanted accuracy or a wanted cost."""

import dataclasses
from collections.abc import Sequence

import numpy as np

SWEEPS = 10
ALL = 2.0
"""A threshold that no confidence reaches: every row is asked on; at `-ALL` none is."""


@dataclasses.dataclass(frozen=True)
class Stages:
    """What each stage of a cascade does with the rows of a split.

    Attributes:
        sure: confidence `[stages, rows]`.
        right: the share of a row's outputs that are right `[stages, rows]`.
        costs: of running each stage on one row `[stages]`.
        weights: of the rows.
    """

    sure: np.ndarray
    right: np.ndarray
    costs: np.ndarray
    weights: np.ndarray

    def leaves(self, thresholds: Sequence[float]) -> np.ndarray:
        """The stage at which each row leaves `[rows]`."""
        left = self.sure[:-1] >= np.asarray(thresholds, dtype="float64")[:, None]
        return np.where(left.any(axis=0), left.argmax(axis=0), len(self.sure) - 1)

    def outcome(self, thresholds: Sequence[float]) -> tuple[float, float]:
        """Accuracy, and mean cost of a row."""
        at = self.leaves(thresholds)
        right = self.right[at, np.arange(len(at))]
        return float(np.average(right, weights=self.weights)), float(np.average(np.cumsum(self.costs)[at], weights=self.weights))

    def shares(self, thresholds: Sequence[float]) -> np.ndarray:
        """The share of the rows that leave at each stage."""
        return np.bincount(self.leaves(thresholds), weights=self.weights, minlength=len(self.sure)) / self.weights.sum()


def choose_thresholds(stages: Stages, goal: float | None, budget: float | None) -> tuple[float, ...]:
    """One threshold for each stage but the last.

    For two stages it is the best of all that tell the rows apart; for more, each is the best given the others, from the last to the
    first and again until none moves.

    Args:
        stages: on validation rows.
        goal: least cost with at least this accuracy; or None, and
        budget: most accuracy at no more than this mean cost.

    Returns:
        Confidences from which a row leaves, halfway between two rows of the split; 2 where all are asked on, -2 where none is.
    """
    count = len(stages.sure)
    found = [ALL] * (count - 1)
    if budget is not None:
        found = [-ALL] * (count - 1)
    for _ in range(SWEEPS):
        before = list(found)
        for place in reversed(range(count - 1)):
            found[place] = _best(stages, found, place, goal, budget)
        if found == before:
            break
    return tuple(found)


def curve(stages: Stages, thresholds: Sequence[float], most: int = 50) -> list[tuple[float, float, float]]:
    """What moving the first threshold gives: threshold, accuracy, mean cost, at most `most` points."""
    steps, accuracy, cost = _sweep(stages, list(thresholds), 0)
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int))
    return [(float(steps[place]), float(accuracy[place]), float(cost[place])) for place in chosen]


def _best(stages: Stages, thresholds: list[float], place: int, goal: float | None, budget: float | None) -> float:
    steps, accuracy, cost = _sweep(stages, thresholds, place)
    slack = 1e-12
    if goal is not None:
        allowed = accuracy >= goal - slack
        key = np.lexsort((-accuracy, cost)) if allowed.any() else np.lexsort((cost, -accuracy))
        return float(steps[next(at for at in key if allowed[at] or not allowed.any())])
    assert budget is not None
    allowed = cost <= budget + slack
    key = np.lexsort((cost, -accuracy)) if allowed.any() else np.lexsort((-accuracy, cost))
    return float(steps[next(at for at in key if allowed[at] or not allowed.any())])


def _sweep(stages: Stages, thresholds: list[float], place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every threshold of one stage that makes a difference, with the accuracy and cost of each, the others as they are."""
    rows, total = np.arange(stages.sure.shape[1]), stages.weights.sum()
    spent = np.cumsum(stages.costs)
    asked = stages.leaves([*thresholds[:place], ALL, *thresholds[place + 1 :]])
    here = stages.leaves([*thresholds[:place], -ALL, *thresholds[place + 1 :]])
    reached = here == place
    order = rows[reached][np.argsort(-stages.sure[place][reached], kind="stable")]
    # From nobody leaving here to all of those that get here: the surest first.
    gain = stages.weights[order] * (stages.right[place, order] - stages.right[asked[order], order])
    saved = stages.weights[order] * (spent[asked[order]] - spent[place])
    accuracy = (stages.weights * stages.right[asked, rows]).sum() + np.concatenate([[0], np.cumsum(gain)])
    cost = (stages.weights * spent[asked]).sum() - np.concatenate([[0], np.cumsum(saved)])
    sure = stages.sure[place, order]
    steps = np.concatenate([[ALL], (sure[:-1] + sure[1:]) / 2, [-ALL]]) if len(sure) else np.array([ALL])
    # Rows of equal confidence leave together.
    apart = np.concatenate([[True], sure[:-1] > sure[1:], [True]]) if len(sure) else np.array([True])
    return steps[apart], accuracy[apart] / total, cost[apart] / total
