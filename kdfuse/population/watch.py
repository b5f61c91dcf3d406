"""Watching a member: its curves on validation, when it stops and which epoch's weights it keeps, as `Stopping` has it."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.arrays import leaves
from kdfuse.data import Data
from kdfuse.fitting.stopping import Best, Stopping
from kdfuse.population.member import Member
from kdfuse.population.targets import Target
from kdfuse.splits import ArraySplit

MONITORS = ("train/loss", "validation/loss", "validation/accuracy")
ACCURACIES = ("SparseCategoricalAccuracy", "CategoricalAccuracy", "BinaryAccuracy")
ROWS = 4096


def why_not_watched(stopping: Stopping, objective: dict[str, Any], data: Data) -> str | None:
    """Why a member cannot be watched so, as the end of a sentence; None where it can.

    Args:
        stopping: what is watched.
        objective: what the model is compiled with.
        data: whose validation split is measured.
    """
    if stopping.monitor not in MONITORS:
        return f"`stopping` watches {stopping.monitor!r}"
    if stopping.monitor != "train/loss" and not isinstance(data.validation, ArraySplit):
        return "the validation rows are no single array"
    return "the model has metrics of its own" if stopping.monitor == "validation/accuracy" and _accuracy(objective) is None else None


class Watch:
    """The curves of a member and the weights of its best epoch.

    Args:
        stopping: what is watched, which `why_not_watched` lets pass.
        objective: what the model is compiled with.
        activation: of the head.
        columns: of the head.
        data: whose validation split is measured.
        x: its rows `[rows, features]`; None where there is no split.
        arrays: all that changes in a member from step to step and that its outputs depend on.

    Attributes:
        stopped: whether the member has waited long enough.
        best: the epoch so far in which the curve was best.
        kept: the arrays of that epoch.
    """

    def __init__(
        self, stopping: Stopping, objective: dict[str, Any], activation: str, columns: int, data: Data, x: np.ndarray | None,
        arrays: list[np.ndarray],
    ) -> None:  # fmt: skip
        self.stopping, self.x, self.arrays = stopping, x, arrays
        self.kept = [np.zeros_like(array) for array in arrays] if stopping.restore_best else []
        self.best, self.stopped = Best(stopping.monitor, stopping.min_delta), False
        split, accuracy = data.validation, _accuracy(objective)
        if x is not None and isinstance(split, ArraySplit):
            self.target = Target(objective["loss"], activation, next(leaves(split.targets()))[1], columns)
            given = split.sample_weight
            self.weights = np.ones(len(x)) if given is None else np.asarray(next(leaves(given))[1], "float64").reshape(-1)
            self.accurate = accuracy is not None
            self.shares = self.weights if accuracy == "weighted_metrics" else np.ones(len(x))

    def after(self, epoch: int, loss: float, member: Member) -> dict[str, float]:
        """The curves' values after an epoch, of which the watched one decides.

        Args:
            epoch: from 0.
            loss: the mean in training.
            member: as it is after the epoch.
        """
        found = {"train/loss": loss, **(self._validation(member) if self.x is not None else {})}
        self.see(epoch, found[self.stopping.monitor])
        if self.kept and self.best.epoch == epoch:
            for kept, array in zip(self.kept, self.arrays, strict=True):
                kept[...] = array
        return found

    def see(self, epoch: int, value: float) -> None:
        """Take a value of the watched curve."""
        if not self.best.improved(epoch, value) and self.best.waited >= self.stopping.patience:
            self.stopped = True

    def see_again(self, values: Sequence[float]) -> None:
        """Know what was seen before a state was taken."""
        self.best, self.stopped = Best(self.stopping.monitor, self.stopping.min_delta), False
        for epoch, value in enumerate(values):
            self.see(epoch, value)

    def swap(self) -> None:
        """Exchange the member's arrays with those of its best epoch, where there are any; the second call puts them back."""
        if self.kept and self.best.epoch >= 0:
            for kept, array in zip(self.kept, self.arrays, strict=True):
                kept[...], array[...] = array.copy(), kept.copy()

    def _validation(self, member: Member) -> dict[str, float]:
        assert self.x is not None
        losses, hits = 0.0, 0.0
        for start in range(0, len(self.x), ROWS):
            part = slice(start, start + ROWS)
            logits, rows = member.logits(self.x[part]), np.arange(len(self.x))[part]
            losses += float(np.dot(self.target.at(rows, logits)[0], self.weights[part]))
            if self.accurate:
                hits += float(np.dot(self.target.hits(rows, logits), self.shares[part]))
        found = {"validation/loss": losses / len(self.x) + member.penalty()}
        return {**found, "validation/accuracy": hits / float(self.shares.sum())} if self.accurate else found


def _accuracy(objective: dict[str, Any]) -> str | None:
    """Under which name the objective has accuracy and nothing else; None where it has not."""
    for name in ("metrics", "weighted_metrics"):
        found = objective.get(name)
        if found and len(found) == 1 and isinstance(found[0], keras.metrics.Metric):
            return name if type(found[0]).__name__ in ACCURACIES and found[0].name == "accuracy" else None
    return None
