"""The callback that holds masks while a model trains: made anew at the steps of a plan, applied before every forward pass."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse import recording
from kdfuse.compress.schedules import Plan
from kdfuse.compress.selection import Arrays, Selection

CURVE = "prune/sparsity"


class Pruner(keras.callbacks.Callback):
    """Prunes the kernels of a selection while whatever model holds them is fitted.

    As in TFMOT a step first makes the masks anew where the plan says so, from weights that the optimizer has just changed (what
    was zero may come back), then puts the masked weights to zero, then runs forward and back. At the end of an epoch, and before
    a validation, the weights are masked again.

    It works inside the traced train step, so that many steps can run in one execution. Masks are computed in NumPy, at the steps
    of the plan alone.

    Args:
        selection: the kernels and the rule.
        plan: when, in steps counted from 1.
        masks: to begin with; None for everything.
    """

    def __init__(self, selection: Selection, plan: Plan, masks: Arrays | None = None) -> None:
        super().__init__()
        self.selection, self.plan = selection, plan
        shapes = [tuple(kernel.variable.shape) for kernel in selection.kernels]
        self.masks = [tf.Variable(mask, trainable=False) for mask in masks or [np.ones(shape, bool) for shape in shapes]]
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.curve: list[float] = []

    def set_model(self, model: keras.Model) -> None:
        """Put the pruning before the train step of the model that is fitted; Keras traces it after this."""
        super().set_model(model)
        original = model.train_step

        def train_step(*given: Any, **named: Any) -> Any:
            self.before_step()
            return original(*given, **named)

        model.__dict__["train_step"] = train_step

    @tf.autograph.experimental.do_not_convert
    def before_step(self) -> None:
        """Count the step, make the masks anew if they are due, and mask the weights; eager or in a graph."""
        step = self.step.assign_add(1)
        tf.cond(self.plan.due(step), self._renew, lambda: tf.constant(False))
        self.hold()

    def hold(self) -> None:
        """Put the masked weights to zero."""
        for kernel, mask in zip(self.selection.kernels, self.masks, strict=True):
            weight = kernel.variable.value
            kernel.variable.assign(tf.where(mask, weight, tf.zeros_like(weight)))

    def on_test_begin(self, logs: Any = None) -> None:
        self.hold()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.hold()
        self.curve.append(self.selection.sparsity(self.selection.weights()))
        run = recording.current()
        if run is not None:
            run.log({CURVE: self.curve[-1]}, step=epoch)

    def on_train_end(self, logs: Any = None) -> None:
        self.release()

    def release(self) -> None:
        """Give the fitted model its own train step back."""
        if getattr(self, "_model", None) is not None:
            self.model.__dict__.pop("train_step", None)

    def finish(self) -> None:
        """Mask what has come back since the last masking (an average of weights, those of an earlier epoch); zeros become +0."""
        for kernel, mask, weight in zip(self.selection.kernels, self.masks, self.selection.weights(), strict=True):
            kept = mask.numpy()
            if np.count_nonzero(weight) > np.count_nonzero(kept):
                weight = np.where(kept, weight, np.zeros_like(weight))
            kernel.variable.assign(np.where(weight == 0, np.zeros_like(weight), weight))

    def get_state(self) -> tuple[dict[str, Any], Arrays]:
        return {"step": int(self.step.numpy()), "curve": self.curve}, [mask.numpy() for mask in self.masks]

    def set_state(self, state: dict[str, Any], arrays: Arrays) -> None:
        self.step.assign(state["step"])
        self.curve = list(state["curve"])
        for mask, array in zip(self.masks, arrays, strict=True):
            mask.assign(array)

    def _renew(self) -> Any:
        def renew(step: Any, *weights: Any) -> Arrays:
            return self.selection.masks(weights, lambda final: self.plan.sparsity(int(step), final))

        weights = [kernel.variable.value for kernel in self.selection.kernels]
        made = tf.numpy_function(renew, [self.step, *weights], [tf.bool] * len(weights))
        for mask, new in zip(self.masks, made if isinstance(made, list | tuple) else [made], strict=True):
            mask.assign(tf.ensure_shape(new, mask.shape))
        return tf.constant(True)


class StepwisePruner(Pruner):
    """The same from outside the train step, for steps that XLA compiles or that run on several devices: one step an execution."""

    def set_model(self, model: keras.Model) -> None:
        keras.callbacks.Callback.set_model(self, model)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.before_step()

    def release(self) -> None:
        """Nothing was put into the model."""
