"""Learning-rate decay: settings that become a Keras schedule once the length of the run is known.

Every decay starts with a linear warm-up over the first `warmup` epochs where that is above 0 (Goyal 2017,
arXiv 1706.02677). Epochs are counted in fractions, so a decay changes the rate at every step unless it says otherwise.
"""

import math
from typing import Any

import keras
from keras import ops

from kdfuse.settings import choose, settings


class Decay:
    """The family of decays; `factor(epoch, epochs)` multiplies the learning rate."""

    warmup: float = 0.0

    def factor(self, epoch: Any, epochs: int) -> Any:
        """The factor at a (fractional) epoch, as `keras.ops` of a float32 scalar, without the warm-up."""
        return ops.ones_like(epoch)

    def at_epoch(self, epoch: Any, epochs: int, steps: int | None) -> Any:
        """The factor at a (fractional) epoch, the warm-up included.

        Args:
            epoch: float32 scalar, from 0.
            epochs: in the run.
            steps: in an epoch; None where it is not known, and the warm-up counts whole epochs.
        """
        factor = self.factor(epoch, epochs)
        return factor * ops.minimum(1.0, (epoch + 1.0 / (steps or 1)) / self.warmup) if self.warmup > 0 else factor

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "at":
                bad = any(not point > 0 for point in value)
            else:
                bad = isinstance(value, int | float) and not (math.isfinite(value) and value >= 0)
            if bad:
                raise ValueError(f"`{name}` of {type(self).__name__}: expected a number of at least 0. Received: {name}={value!r}.")


@settings
class Constant(Decay):
    """No decay.

    Attributes:
        warmup: epochs of linear warm-up, at least 0.
    """

    warmup: float = 0.0


@settings
class Exponential(Decay):
    """The rate times `rate` ** (epoch / `every`), at every step.

    Attributes:
        rate: the factor per `every` epochs, above 0.
        every: epochs, above 0.
        warmup: epochs of linear warm-up.
    """

    rate: float = 0.95
    every: float = 1.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _above_zero(self, "rate", "every")

    def factor(self, epoch: Any, epochs: int) -> Any:
        return ops.power(ops.cast(self.rate, "float32"), epoch / self.every)


@settings
class Staircase(Decay):
    """The rate times `rate` at each of some points of the run.

    Attributes:
        rate: the factor of each stair, above 0.
        at: points as shares of the epochs (below 1) or as epochs (from 1 on), for example `(0.5, 0.75)` or `(150, 180, 210)`.
        warmup: epochs of linear warm-up.
    """

    rate: float = 0.1
    at: tuple[float, ...] = (0.5, 0.75)
    warmup: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _above_zero(self, "rate")

    def factor(self, epoch: Any, epochs: int) -> Any:
        points = [point * epochs if point < 1 else float(point) for point in self.at]
        passed = sum((ops.cast(epoch >= point, "float32") for point in points), ops.zeros_like(epoch))
        return ops.power(ops.cast(self.rate, "float32"), passed)


@settings
class Cosine(Decay):
    """Half a cosine from the rate down to `final` times the rate at the last epoch (Loshchilov 2017, arXiv 1608.03983).

    Attributes:
        final: the share of the rate that is left at the end, 0 to 1.
        warmup: epochs of linear warm-up; the cosine runs over the epochs after it.
    """

    final: float = 0.0
    warmup: float = 0.0

    def factor(self, epoch: Any, epochs: int) -> Any:
        length = max(epochs - self.warmup, 1e-6)
        done = ops.clip((epoch - self.warmup) / length, 0.0, 1.0)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + ops.cos(math.pi * done))


@settings
class Restarts(Decay):
    """A cosine from the rate down to 0 in each of `cycles` equal parts of the run (Loshchilov and Hutter 2017, arXiv 1608.03983).

    Attributes:
        cycles: at least 1; the last one ends with the run.
        warmup: epochs of linear warm-up at the start of the run.
    """

    cycles: int = 5
    warmup: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.cycles, bool) or not isinstance(self.cycles, int) or self.cycles < 1:
            raise ValueError(f"`cycles` of Restarts: expected an integer of at least 1. Received: cycles={self.cycles!r}.")

    def factor(self, epoch: Any, epochs: int) -> Any:
        length = epochs / self.cycles
        done = epoch / length - ops.floor(epoch / length)
        return 0.5 * (1.0 + ops.cos(math.pi * done))


@settings
class Linear(Decay):
    """A straight line from the rate down to `final` times the rate at the last epoch.

    Attributes:
        final: the share of the rate that is left at the end, at least 0; above 1 the line rises.
        warmup: epochs of linear warm-up; the line runs over the epochs after it.
    """

    final: float = 0.0
    warmup: float = 0.0

    def factor(self, epoch: Any, epochs: int) -> Any:
        length = max(epochs - self.warmup, 1e-6)
        return 1.0 + (self.final - 1.0) * ops.clip((epoch - self.warmup) / length, 0.0, 1.0)


@settings
class Plateau(Decay):
    """The rate times `rate` whenever `monitor` has not improved for `patience` epochs.

    Attributes:
        rate: the factor, above 0.
        patience: epochs without improvement, at least 1.
        monitor: a curve of the history, `validation/loss` or `train/loss` for example.
        floor: the rate never falls below this share of where it began.
    """

    rate: float = 0.5
    patience: int = 5
    monitor: str = "validation/loss"
    floor: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        _above_zero(self, "rate", "patience")


DECAYS = {"constant": Constant, "exponential": Exponential, "staircase": Staircase, "cosine": Cosine, "linear": Linear,
          "plateau": Plateau, "restarts": Restarts}  # fmt: skip


def make_decay(decay: str | Decay) -> Decay:
    """A decay from its name (with its defaults) or as it was given.

    Raises:
        ValueError: an unknown name.
        TypeError: neither a name nor a decay.
    """
    if isinstance(decay, str):
        return DECAYS[choose("decay", decay, DECAYS)]()
    if not isinstance(decay, Decay):
        raise TypeError(f"`decay`: expected a name ({', '.join(DECAYS)}) or a decay such as kdfuse.Cosine(). Received: {decay!r}.")
    return decay


def needs_steps(decay: Decay) -> bool:
    """Whether the decay changes the rate within an epoch, so that the steps of an epoch must be known."""
    return not isinstance(decay, Plateau) and not (isinstance(decay, Constant) and decay.warmup == 0)


@keras.saving.register_keras_serializable("kdfuse")
class DecaySchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A decay as a function of the optimizer's step.

    Args:
        rate: the learning rate before decay.
        decay: the decay, or the config that `get_config` gave.
        steps: steps in an epoch.
        epochs: epochs in the run.
    """

    def __init__(self, rate: float, decay: Decay | dict[str, Any], steps: int, epochs: int) -> None:
        super().__init__()
        self.rate, self.steps, self.epochs = float(rate), int(steps), int(epochs)
        if isinstance(decay, dict):
            given = dict(decay)
            self.decay: Decay = DECAYS[given.pop("class").lower()](**given)
        else:
            self.decay = decay

    def __call__(self, step: Any) -> Any:
        return self.rate * self.decay.at_epoch(ops.cast(step, "float32") / self.steps, self.epochs, self.steps)

    def get_config(self) -> dict[str, Any]:
        decay = {"class": type(self.decay).__name__, **vars(self.decay)}
        return {"rate": self.rate, "decay": decay, "steps": self.steps, "epochs": self.epochs}


def _above_zero(decay: Any, *names: str) -> None:
    for name in names:
        if not getattr(decay, name) > 0:
            raise ValueError(f"`{name}` of {type(decay).__name__}: expected a number above 0. Received: {name}={getattr(decay, name)!r}.")
