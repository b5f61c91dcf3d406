"""Thresholds of a cascade: when to stop asking, for a wanted accuracy or a wanted cost."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

ALL = 2.0
"""A threshold that no confidence reaches: every row is asked on; at `-ALL` none is."""
SWEEPS, STARTS, TRIED = 10, 256, 8
CLOSE, SLACK = 1e-6, 1e-9
"""Rows whose confidence differs by less than `CLOSE` leave together: float32 does not tell them apart in every batch."""


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

    Of two stages it is the best of all thresholds that tell the rows apart. Of more, the first is the best of all for each of up to 256
    choices of the others, from among their rows; the best of these then move one at a time, each to its best given the others, until
    none moves. Of three stages on up to 250 rows that is the best there is.

    Args:
        stages: on validation rows.
        goal: least cost with at least this accuracy; or None, and
        budget: most accuracy at no more than this mean cost.

    Returns:
        Confidences from which a row leaves, halfway between two rows of the split; 2 where all are asked on, -2 where none is.
    """

    def rank(thresholds: Sequence[float]) -> tuple[float, ...]:
        accuracy, cost = (np.asarray([one]) for one in stages.outcome(thresholds))
        return tuple(float(one[0]) for one in _wanted(accuracy, cost, goal, budget))

    begun = [(_best(stages, [ALL, *rest], 0, goal, budget), *rest) for rest in _starts(stages)]
    return min((_settled(stages, one, goal, budget) for one in sorted(begun, key=rank)[:TRIED]), key=rank)


def curve(stages: Stages, thresholds: Sequence[float], most: int = 50) -> list[tuple[float, float, float]]:
    """What moving the first threshold gives: threshold, accuracy, mean cost, at most `most` points."""
    steps, accuracy, cost = _sweep(stages, list(thresholds), 0)
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int))
    return [(float(steps[place]), float(accuracy[place]), float(cost[place])) for place in chosen]


def _starts(stages: Stages) -> list[tuple[float, ...]]:
    """Thresholds of all stages but the first and the last: all asked on, none, and confidences in between."""
    places = range(1, len(stages.sure) - 1)
    if not places:
        return [()]
    count = int(STARTS ** (1 / len(places)) + 1e-9) - 2
    levels = []
    for place in places:
        steps = _steps(np.sort(stages.sure[place])[::-1])[0][1:-1]
        chosen = np.unique(np.linspace(0, len(steps) - 1, min(max(count, 0), len(steps))).round().astype(int))
        levels.append([ALL, *steps[chosen].tolist(), -ALL])
    return list(itertools.product(*levels))


def _settled(stages: Stages, thresholds: Sequence[float], goal: float | None, budget: float | None) -> tuple[float, ...]:
    """Each threshold at its best given the others, from the last to the first and again until none moves."""
    found = list(thresholds)
    for _ in range(SWEEPS if len(found) > 1 else 0):
        before = list(found)
        for place in reversed(range(len(found))):
            found[place] = _best(stages, found, place, goal, budget)
        if found == before:
            break
    return tuple(found)


def _best(stages: Stages, thresholds: Sequence[float], place: int, goal: float | None, budget: float | None) -> float:
    steps, accuracy, cost = _sweep(stages, thresholds, place)
    return float(steps[np.lexsort(_wanted(accuracy, cost, goal, budget)[::-1])[0]])


def _wanted(accuracy: np.ndarray, cost: np.ndarray, goal: float | None, budget: float | None) -> tuple[np.ndarray, ...]:
    """The smaller the better, the first first. What does not hold the goal or the budget is judged by how near it comes."""
    held = accuracy >= goal - SLACK if goal is not None else cost <= (budget or 0.0) * (1 + SLACK)
    cheap_first = held if goal is not None else ~held
    return ~held, np.where(cheap_first, cost, -accuracy), np.where(cheap_first, -accuracy, cost)


def _sweep(stages: Stages, thresholds: Sequence[float], place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    steps, apart = _steps(stages.sure[place, order])
    return steps, accuracy[apart] / total, cost[apart] / total


def _steps(sure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The thresholds that tell rows apart, and which of the places before, between and behind the rows they are.

    Args:
        sure: confidences, the largest first.
    """
    if not len(sure):
        return np.array([ALL]), np.array([True])
    # The layer compares in float32: a threshold must be above the lower row there too.
    middle = ((sure[:-1] + sure[1:]) / 2).astype("float32").astype("float64")
    middle = np.where(middle > sure[1:], middle, sure[:-1])
    apart = np.concatenate([[True], sure[:-1] - sure[1:] > CLOSE, [True]])
    return np.concatenate([[ALL], middle, [-ALL]])[apart], apart
