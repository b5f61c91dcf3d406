"""WeightAverage: train one model, and give back the mean of the weights along the way."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.ensemble.parallel.training import check_training, innermost, refuse_stopping
from kdfuse.fitting.batch_norm import reestimate
from kdfuse.graph.copy import copy_model
from kdfuse.settings import choose, settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Fitted, Train, Trainer

WAYS = ("swa", "ema")
DECAY, ROWS = 0.999, 8192


class EpochMean(keras.callbacks.Callback):
    """The mean of the trainable weights at the ends of epochs: stochastic weight averaging.

    Args:
        student: whose weights are meant.
        first: the epoch, from 0, whose end is the first to count.
    """

    def __init__(self, student: keras.Model, first: int) -> None:
        super().__init__()
        self.student, self.first, self.count = student, first, 0
        self.sums = [np.zeros(variable.shape) for variable in student.trainable_variables]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch >= self.first:
            self.count += 1
            for total, variable in zip(self.sums, self.student.trainable_variables, strict=True):
                total += keras.ops.convert_to_numpy(variable)

    def average(self) -> list[np.ndarray]:
        """The mean of each trainable weight."""
        return [total / max(self.count, 1) for total in self.sums]

    def get_state(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        return {"count": self.count}, [total.copy() for total in self.sums]

    def set_state(self, state: dict[str, Any], arrays: list[np.ndarray]) -> None:
        self.count, self.sums = state["count"], list(arrays)


class StepMean(keras.callbacks.Callback):
    """The exponential moving average of the trainable weights after every step, without the bias towards its start at 0.

    `m = decay * m + (1 - decay) * w`, and at the end `m / (1 - decay ** steps)` (Kingma, Ba, 2015, section 3). It is computed inside the
    traced train step, so many steps can run in one execution.

    Args:
        student: whose weights are meant.
        first: the epoch, from 0, whose first step is the first to count.
        decay: in (0, 1).
    """

    def __init__(self, student: keras.Model, first: int, decay: float) -> None:
        super().__init__()
        self.student, self.first, self.decay = student, first, decay
        self.means = [tf.Variable(tf.zeros(variable.shape), trainable=False) for variable in student.trainable_variables]
        self.steps, self.on = (tf.Variable(0.0, dtype=tf.float64, trainable=False) for _ in range(2))

    def set_model(self, model: keras.Model) -> None:
        """Put the average behind the train step of the model that is fitted; Keras traces it after this."""
        super().set_model(model)
        original = model.train_step

        def train_step(*given: Any, **named: Any) -> Any:
            logs = original(*given, **named)
            self.after_step()
            return logs

        model.__dict__["train_step"] = train_step

    @tf.autograph.experimental.do_not_convert
    def after_step(self) -> None:
        """Add the present weights to the average, where the epoch counts; eager or in a graph."""
        on = tf.cast(self.on, tf.float32)
        self.steps.assign_add(self.on)
        for mean, variable in zip(self.means, self.student.trainable_variables, strict=True):
            mean.assign_add(on * (1.0 - self.decay) * (tf.cast(variable.value, tf.float32) - mean))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.on.assign(float(epoch >= self.first))

    def on_train_end(self, logs: Any = None) -> None:
        self.release()

    def release(self) -> None:
        """Give the fitted model its own train step back."""
        if getattr(self, "_model", None) is not None:
            self.model.__dict__.pop("train_step", None)

    def average(self) -> list[np.ndarray]:
        """The average of each trainable weight."""
        share = -math.expm1(float(self.steps.numpy()) * math.log(self.decay))
        return [mean.numpy().astype("float64") / (share or 1.0) for mean in self.means]

    def get_state(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        return {"steps": float(self.steps.numpy())}, [mean.numpy() for mean in self.means]

    def set_state(self, state: dict[str, Any], arrays: list[np.ndarray]) -> None:
        self.steps.assign(state["steps"])
        for mean, array in zip(self.means, arrays, strict=True):
            mean.assign(array)


@settings
class WeightAverage(Technique):
    """Train a model and give back the mean of its weights along the run: one model, at one model's cost.

    BatchNorm statistics are measured anew on training rows, as no model had those of the mean. The curves of the history are those of the
    weights that are trained, not of their mean; the report's baseline `last` is the model with the weights of the last step, its statistics
    measured anew as well. It can itself be the `training` of another technique.

    `swa`: Izmailov et al., 2018, "Averaging Weights Leads to Wider Optima" (arXiv 1803.05407): the mean of the weights at the ends of
    epochs. It wants a learning rate that stays high while the mean is taken (`decay="constant"`), so that the weights move around.
    `ema`: Polyak averaging with exponential weights, at every step.

    Attributes:
        how: `swa` or `ema`.
        start: the share of the epochs after which the mean begins, in [0, 1).
        decay: of `ema`, in (0, 1): the mean reaches over about the last 1 / (1 - decay) steps.
        training: `Train(...)` or `Distill(teacher)`, without `stopping`.
    """

    how: str = "swa"
    start: float = 0.75
    decay: float = DECAY
    training: Trainer = Train()

    keeps_structure = True

    def __post_init__(self) -> None:
        choose("how", self.how, WAYS)
        for name, value, least in (("start", self.start, 0.0), ("decay", self.decay, math.ulp(0.0))):
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1:
                raise ValueError(f"`{name}`: expected a number in {'[' if least == 0 else '('}0, 1). Received: {name}={value!r}.")
        if self.how == "swa" and self.decay != DECAY:
            raise ValueError(f"`decay`: how='swa' weighs all epochs alike. Received: decay={self.decay!r}. Leave it out.")
        check_training(self.training)
        refuse_stopping("WeightAverage", self.training, "an average of weights has no best epoch")
        train = innermost(self.training)
        if self.how == "swa" and train.epochs - self._first() < 2:
            raise ValueError(
                f"`start`: the mean would be over the end of one epoch alone. Received: start={self.start}, epochs={train.epochs}. "
                "Give more epochs or a smaller start."
            )
        if self.how == "ema" and train.strategy is not None:
            raise ValueError(f"`training`: ema works on one device. Received: strategy={train.strategy!r}. Give None, or how='swa'.")

    def check(self, model: keras.Model, data: Data) -> None:
        self.training.check(model, data)  # type: ignore[attr-defined]

    def apply(self, model: keras.Model, data: Data) -> Result:
        student = self.private(model, data)
        fitted, last = self._fit(student, data)
        baseline = copy_model(student, data.example(2))
        baseline.set_weights(last)
        self._settle(baseline, data)
        result = Result(self.public(student, data), fitted.history, notes=fitted.notes, baselines={"last": baseline})
        result.heads = {"model": innermost(self.training).head, "last": innermost(self.training).head}
        return result

    def private(self, model: keras.Model, data: Data) -> keras.Model:
        """A copy of `model` that `fit` may train, compiled as `model` is."""
        return self.training.private(model, data)

    def fit(self, model: keras.Model, data: Data, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Fitted:
        """Train `model` in place; in the end it has the mean of the weights.

        Args:
            model: a copy that belongs to the caller, from `private`.
            data: as in `Train.fit`.
            callbacks: Keras callbacks.

        Returns:
            The curves and notes.
        """
        return self._fit(model, data, callbacks)[0]

    def public(self, model: keras.Model, data: Data) -> keras.Model:
        """The trained copy as a plain model to give away."""
        return self.training.public(model, data)

    def _fit(self, model: keras.Model, data: Data, callbacks: Sequence[keras.callbacks.Callback] = ()) -> tuple[Fitted, list[np.ndarray]]:
        first, epochs = self._first(), innermost(self.training).epochs
        averager: EpochMean | StepMean = EpochMean(model, first) if self.how == "swa" else StepMean(model, first, self.decay)
        try:
            fitted = self.training.fit(model, data, [*callbacks, averager])
        finally:
            if isinstance(averager, StepMean):
                averager.release()
        last = model.get_weights()
        for variable, value in zip(model.trainable_variables, averager.average(), strict=True):
            variable.assign(value.astype(keras.backend.standardize_dtype(variable.dtype)))
        count = self._settle(model, data)
        kind = f"The mean of the weights at the ends of epochs {first + 1} to {epochs}."
        if self.how == "ema":
            kind = f"The exponential moving average of the weights over the steps of epochs {first + 1} to {epochs}."
        notes = [kind, "The curves are those of the weights that were trained, not of their mean."]
        notes += [f"The statistics of {count} BatchNorm layers were measured anew."] if count else []
        return Fitted(fitted.history, [*notes, *fitted.notes]), last

    def _settle(self, model: keras.Model, data: Data) -> int:
        return reestimate(model, data, ROWS, seed=innermost(self.training).seed)

    def _first(self) -> int:
        """The first epoch, from 0, that counts: the one at whose end the share `start` is reached, of ema the one in which it is."""
        reached = self.start * innermost(self.training).epochs
        return max(math.ceil(reached - 1e-9) - 1, 0) if self.how == "swa" else math.floor(reached + 1e-9)
