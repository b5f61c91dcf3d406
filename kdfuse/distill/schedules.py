"""Schedules of weights and temperatures: a setting that changes while a student is trained."""

from typing import Any

import keras
from keras import ops

from kdfuse.fitting.decay import Decay, Plateau, make_decay
from kdfuse.settings import settings


@settings
class Schedule:
    """A setting of a distillation times a factor that changes with the epoch, at every step.

    The learning-rate decays are the shapes: `Linear(final=0.25)`, `Cosine(final=0)`, `Exponential(...)`, `Staircase(...)`, and
    `Constant(warmup=20)` for a warm-up alone (DKD and ReviewKD warm up their loss over 20 epochs). `Stop(at=0.5)` ends a term.

    Attributes:
        setting: `label_weight`, `loss_weights__0`, `losses__0__temperature` ...: a number of the distillation.
        decay: a decay by name or with its settings; epochs count from 0 at the first step.
    """

    setting: str
    decay: str | Decay = "cosine"

    def __post_init__(self) -> None:
        if isinstance(make_decay(self.decay), Plateau):
            raise ValueError("`decay` of Schedule: a plateau follows a curve, not the epoch. Give a linear, cosine or other decay.")
        if not isinstance(self.setting, str):
            raise TypeError(f"`setting` of Schedule: expected a name such as 'loss_weights__0'. Received: {self.setting!r}.")


@settings
class Stop(Decay):
    """1 until a point of the run, 0 from there on: a term of the loss that ends (Cho and Hariharan 2019, arXiv 1910.01348).

    Attributes:
        at: the point as a share of the epochs (below 1) or in epochs (from 1 on), above 0.
        warmup: epochs of linear warm-up.
    """

    at: float = 0.5
    warmup: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (("at", self.at, 0.0), ("warmup", self.warmup, -1e-9)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not least < value < float("inf"):
                raise ValueError(f"`{name}` of Stop: expected a number above 0 (`warmup`: from 0). Received: {name}={value!r}.")

    def factor(self, epoch: Any, epochs: int) -> Any:
        point = self.at * epochs if self.at < 1 else self.at
        return ops.cast(epoch < point, "float32")


class Clock:
    """Moves the scheduled variables along while a model is fitted.

    Args:
        schedules: what changes.
        knobs: the variables by the names of their settings.
        epochs: in the run.
        steps: in an epoch; None where it is not known: then settings change from epoch to epoch only.
    """

    def __init__(self, schedules: tuple[Schedule, ...], knobs: dict[str, keras.Variable], epochs: int, steps: int | None) -> None:
        self.epochs, self.steps = epochs, steps
        self.now = keras.Variable(
            0.0, shape=(), dtype="float32", trainable=False, autocast=False, aggregation="only_first_replica", name="epochs_passed"
        )
        self._moved = [
            (knobs[one.setting], float(ops.convert_to_numpy(ops.convert_to_tensor(knobs[one.setting]))), make_decay(one.decay))
            for one in schedules
        ]

    def set(self, epoch: int) -> None:
        """An epoch begins."""
        self.now.assign(float(epoch))

    def step(self) -> None:
        """Give the variables their values for a step, then count it."""
        epoch = ops.convert_to_tensor(self.now)
        for knob, base, decay in self._moved:
            knob.assign(base * decay.at_epoch(epoch, self.epochs, self.steps))
        if self.steps:
            self.now.assign(epoch + 1.0 / self.steps)


class EpochClock(keras.callbacks.Callback):
    """Tells the clock of the fitted model when an epoch begins, also after a resume."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.clock.set(epoch)
