"""What ends a trial early: that it does worse than half of those before it."""

import statistics
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.fitting.history import curve
from kdfuse.fitting.stopping import higher_is_better

CURVES = ("validation/accuracy", "validation/loss", "train/loss")
"""The curve that trials are compared by: the first of these that there is."""


class StopBelow(keras.callbacks.Callback):
    """Ends `fit` once the best value of a curve so far is below the median of others at that epoch (Golovin 2017, Vizier).

    Args:
        bar: name of the curve, and its medians, one an epoch.
        grace: epochs in which nothing is stopped.
    """

    def __init__(self, bar: tuple[str, list[float]], grace: int) -> None:
        super().__init__()
        self.name, self.medians = bar
        self.grace, self.stopped = grace, False
        self.best: float | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {curve(name): float(value) for name, value in (logs or {}).items()}
        if self.name not in values:
            return
        sign = 1 if higher_is_better(self.name) else -1
        own = sign * values[self.name]
        self.best = own if self.best is None else max(self.best, own)
        if self.grace <= epoch + 1 < len(self.medians) and self.best < sign * self.medians[epoch]:
            self.stopped = self.model.stop_training = True

    def get_state(self) -> tuple[dict[str, Any], list[Any]]:
        return {"best": self.best}, []

    def set_state(self, state: dict[str, Any], arrays: list[Any]) -> None:
        self.best = state["best"]


def bar(histories: Sequence[dict[str, list[float]]], least: int) -> tuple[str, list[float]] | None:
    """The medians of the best values so far of whole curves, one an epoch; None where there are fewer than `least` curves."""
    for name in CURVES:
        curves = [history[name] for history in histories if history.get(name)]
        if len(curves) < max(least, 1):
            continue
        best = max if higher_is_better(name) else min
        longest = max(map(len, curves))
        whole = [one for one in curves if len(one) == longest]
        if len(whole) >= least:
            return name, [statistics.median(best(one[: epoch + 1]) for one in whole) for epoch in range(longest)]
    return None
