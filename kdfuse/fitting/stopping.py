"""Early stopping, and the plateau decay, as callbacks whose state survives an interruption."""

import math
from typing import Any

import keras
import numpy as np

from kdfuse.fitting.decay import Plateau
from kdfuse.fitting.history import History
from kdfuse.settings import settings, suggest

LESS = ("loss", "error", "mae", "mse", "rmse", "mape", "msle", "perplexity", "crossentropy", "divergence", "hinge", "poisson", "logcosh",
        "brier", "false_")  # fmt: skip
"""Words in the names of curves of which less is better, those of Keras's metrics among them."""


@settings
class Stopping:
    """Stop when a curve has not improved for a while.

    Attributes:
        monitor: a curve of the history: `validation/loss`, `validation/accuracy`, `train/loss` ...
        patience: epochs without improvement before training stops, at least 1.
        min_delta: how much better counts as better, at least 0.
        restore_best: whether the weights of the best epoch come back at the end (also when training was not stopped).
    """

    monitor: str = "validation/loss"
    patience: int = 5
    min_delta: float = 0.0
    restore_best: bool = True

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"`patience` of Stopping: expected an integer of at least 1. Received: patience={self.patience!r}.")
        if not self.min_delta >= 0:
            raise ValueError(f"`min_delta` of Stopping: expected a number of at least 0. Received: min_delta={self.min_delta!r}.")


def higher_is_better(monitor: str) -> bool:
    """Whether more of this curve is better: not for losses and errors."""
    bare = monitor.rsplit("/", 1)[-1]
    return not any(word in bare for word in LESS)


class Best:
    """The best value of a curve so far.

    Args:
        monitor: the curve's name, which says whether more is better.
        min_delta: how much better counts as better.

    Attributes:
        epoch: when it was, -1 before there is one.
        waited: epochs since.
    """

    def __init__(self, monitor: str, min_delta: float = 0.0) -> None:
        self.monitor, self.sign, self.min_delta = monitor, 1 if higher_is_better(monitor) else -1, min_delta
        self.score, self.waited, self.epoch = -math.inf, 0, -1

    def improved(self, epoch: int, value: float) -> bool:
        """Take the value of an epoch; whether it is the best so far."""
        if self.sign * value > self.score + self.min_delta:
            self.score, self.waited, self.epoch = self.sign * value, 0, epoch
            return True
        self.waited += 1
        return False


class _Watch(keras.callbacks.Callback):
    """Follows one curve and counts the epochs since it was best."""

    def __init__(self, monitor: str, min_delta: float, history: History) -> None:
        super().__init__()
        self.monitor, self.curves, self.best = monitor, history, Best(monitor, min_delta)

    def improved(self, epoch: int) -> bool:
        """Read the newest value; whether it is the best so far."""
        curve = self.curves.values.get(self.monitor)
        if not curve:
            raise ValueError(
                f"`monitor`: there is no curve {self.monitor!r}. {suggest(self.monitor, self.curves.values)}"
                + (" `Data` has no validation split." if self.monitor.startswith("validation/") and not self.curves.validated else "")
            )
        return self.best.improved(epoch, curve[-1])

    def get_state(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        best = self.best
        return {"best": best.score if math.isfinite(best.score) else None, "waited": best.waited, "best_epoch": best.epoch}, []

    def set_state(self, state: dict[str, Any], arrays: list[np.ndarray]) -> None:
        self.best.score = -math.inf if state["best"] is None else state["best"]
        self.best.waited, self.best.epoch = state["waited"], state["best_epoch"]


class EarlyStop(_Watch):
    """Does what `Stopping` says, on the weights of `student`."""

    def __init__(self, stopping: Stopping, history: History, student: keras.Model) -> None:
        super().__init__(stopping.monitor, stopping.min_delta, history)
        self.stopping, self.student = stopping, student
        self.weights: list[np.ndarray] = []
        self.stopped = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.improved(epoch):
            self.weights = self.student.get_weights() if self.stopping.restore_best else []
        elif self.best.waited >= self.stopping.patience:
            self.stopped = self.model.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self.weights:
            self.student.set_weights(self.weights)

    def get_state(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        return {**super().get_state()[0], "stopped": self.stopped}, self.weights

    def set_state(self, state: dict[str, Any], arrays: list[np.ndarray]) -> None:
        super().set_state(state, [])
        self.stopped, self.weights = state["stopped"], arrays


class PlateauDecay(_Watch):
    """Does what `Plateau` says to the learning rate of the model's optimizer."""

    def __init__(self, plateau: Plateau, history: History, rate: float) -> None:
        super().__init__(plateau.monitor, 0.0, history)
        self.plateau, self.rate = plateau, rate

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if not self.improved(epoch) and self.best.waited >= self.plateau.patience:
            optimizer = self.model.optimizer
            now = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
            optimizer.learning_rate = max(now * self.plateau.rate, self.rate * self.plateau.floor)
            self.best.waited = 0
