"""Callbacks that keep a run right: randomness that is a function of the epoch, and a stop at the first loss that is not a number."""

import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kdfuse.home import write_atomic


class NonFiniteLoss(FloatingPointError):
    """The training loss became NaN or infinite.

    Attributes:
        epoch: the epoch it happened in, from 0.
        step: the step of that epoch at which it was seen, from 0.
        path: the `.keras` file with the last good weights.
    """

    def __init__(self, message: str, epoch: int, step: int, path: Path) -> None:
        super().__init__(message)
        self.epoch, self.step, self.path = epoch, step, path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.epoch, self.step, self.path)


class EpochSeeds(keras.callbacks.Callback):
    """Sets every seed generator (dropout, augmentation) to a function of (seed, epoch) when an epoch begins.

    What an epoch draws then does not depend on what came before, and an interrupted run goes on exactly.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for place, generator in enumerate(seed_generators(self.model)):
            drawn = np.random.default_rng([self.seed, epoch, place]).integers(0, 2**32, 1, dtype=np.uint32)[0]
            generator.state.assign(np.asarray([drawn, 0], dtype=generator.state.dtype))


def seed_generators(model: keras.Model) -> list[keras.random.SeedGenerator]:
    """The seed generators of a model and of all layers in it, each once, in order."""
    found: list[Any] = []
    for layer in model._flatten_layers():
        for value in layer._seed_generators:
            if all(value is not other for other in found):
                found.append(value)
    return found


class StopAtNaN(keras.callbacks.Callback):
    """Raises `NonFiniteLoss` at the first loss that is not finite, and keeps the weights of the last good epoch.

    Args:
        student: the model whose weights are kept.
        path: where they are saved if it comes to that.
        every: steps between two looks at the loss (a look waits for the device).
    """

    def __init__(self, student: keras.Model, path: Path, every: int = 16) -> None:
        super().__init__()
        self.student, self.path, self.every = student, path, every
        self.good: list[np.ndarray] = []
        self.epoch, self.seen = 0, -1

    def on_train_begin(self, logs: Any = None) -> None:
        self.good = self.student.get_weights() if self.student.built else []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch, self.seen = epoch, -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if logs and (self.seen < 0 or batch - self.seen >= self.every):
            if not np.isfinite(float(logs["loss"])):
                self._stop(batch)
            self.seen = batch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs and not np.isfinite(float(logs["loss"])):
            self._stop(-1)
        weights = self.student.get_weights()
        if all(np.isfinite(np.asarray(weight, dtype=np.float32)).all() for weight in weights):
            self.good = weights

    def _stop(self, batch: int) -> None:
        if self.good:
            self.student.set_weights(self.good)
        write_atomic(self.path.with_suffix(".keras"), lambda temporary: self.student.save(temporary, include_optimizer=False))
        where = f"after step {max(self.seen, 0)}" if batch < 0 else f"between steps {self.seen + 1} and {batch}"
        raise NonFiniteLoss(
            f"The training loss became NaN or infinite in epoch {self.epoch}, {where}. The last good weights are in {self.path}. "
            "Lower `learning_rate`, give the optimizer a `clipnorm`, or look for outliers in the data.",
            self.epoch,
            batch,
            self.path,
        )


class Progress(keras.callbacks.Callback):
    """One line on a terminal that tells the epoch, the loss and the time that is left."""

    def __init__(self, title: str, epochs: int, steps: int | None) -> None:
        super().__init__()
        self.title, self.epochs, self.steps = title, epochs, steps
        self.begun = self.shown = time.monotonic()
        self.first: int | None = None
        self.epoch = 0
        self.tail = ""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch
        self.first = epoch if self.first is None else self.first

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if time.monotonic() - self.shown > 0.5:
            self._show(self.epoch + ((batch + 1) / self.steps if self.steps else 0))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        self.tail = "".join(f"  {name} {float(logs[name]):.4f}" for name in names if logs and name in logs)
        self._show(epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    def _show(self, done: float) -> None:
        self.shown = time.monotonic()
        passed = done - (self.first or 0)
        left = (self.shown - self.begun) * (self.epochs - done) / passed if passed > 0 else 0.0
        filled = int(20 * done / self.epochs)
        bar = "█" * filled + "·" * (20 - filled)
        sys.stderr.write(f"\r\x1b[K{self.title} {bar} epoch {int(done)}/{self.epochs}{self.tail}  {left:.0f} s left")
        sys.stderr.flush()
