"""Validation in one pass whose outputs are kept: its figures in the curves, and nothing to run again for who measures the model."""

from typing import Any

import keras
import numpy as np

from kdfuse.fitting.history import curve
from kdfuse.fitting.stopping import Best, Stopping
from kdfuse.graph.nodes import graph_of
from kdfuse.measure.predict import Pass, one_pass, runner
from kdfuse.splits import ArraySplit


class Validation(keras.callbacks.Callback):
    """Adds `val_loss` and the metrics to the logs of each epoch, as `fit(validation_data=...)` does, but for rounding.

    It comes first among the callbacks. The losses that kdfuse chooses are means over rows, so that all rows at once have the loss that
    batches have.

    Args:
        split: what is measured.
        stopping: of the training: where it restores the best epoch, the pass of that one is kept too.
    """

    def __init__(self, split: ArraySplit, stopping: Stopping | None) -> None:
        super().__init__()
        self.split, self.stopping = split, stopping
        self.passes: dict[int, Pass] = {}
        self._best = None if stopping is None else Best(stopping.monitor, stopping.min_delta)
        self._run: Any = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        self._run = self._run or runner(model)
        done = one_pass(model, self.split, run=self._run)
        figures = _figures(model, done)
        if logs is not None:
            logs |= {f"val_{name}": value for name, value in figures.items()}
        best = self.passes.get(self._best.epoch) if self._best is not None else None
        self.passes = {epoch: done} | ({} if best is None or self._best is None else {self._best.epoch: best})
        if self._best is not None:
            told = {curve(name): value for name, value in (logs or {}).items()}
            if self._best.monitor in told and self._best.improved(epoch, float(told[self._best.monitor])):
                self.passes = {epoch: done}

    def of(self, history: dict[str, list[float]]) -> Pass | None:
        """The pass of the weights that a training ended with, None where it is not known.

        Args:
            history: its curves, also of epochs before this object was there.
        """
        last = len(history["train/loss"]) - 1
        if self.stopping is None or not self.stopping.restore_best:
            return self.passes.get(last)
        best = Best(self.stopping.monitor, self.stopping.min_delta)
        for epoch, value in enumerate(history[self.stopping.monitor]):
            best.improved(epoch, value)
        return self.passes.get(best.epoch)


def why_not_at_once(model: keras.Model, split: Any) -> str | None:
    """Why Keras must validate a model with losses that kdfuse chose, as the end of a sentence; None where `Validation` can.

    Args:
        model: that is fitted.
        split: what is measured.
    """
    if not isinstance(split, ArraySplit):
        return "the validation rows are no arrays"
    if graph_of(model) is None or type(model).test_step is not keras.Model.test_step:
        return "the model has no graph of layers"
    parts = list(model._flatten_layers())
    if any(type(layer).__module__.split(".")[0] != "keras" for layer in parts):
        return "a layer is not Keras's own, and may add to the loss"
    return "a layer adds to the loss" if any(getattr(layer, "activity_regularizer", None) for layer in parts) else None


def _figures(model: Any, done: Pass) -> dict[str, float]:
    outputs = keras.tree.map_structure(keras.ops.convert_to_tensor, done.outputs)
    for output, mask in zip(keras.tree.flatten(outputs), done.masks, strict=True):
        if mask is not None:
            output._keras_mask = keras.ops.convert_to_tensor(mask)
    targets = keras.tree.map_structure(np.asarray, done.targets)
    model.reset_metrics()
    loss = model.compute_loss(x=None, y=targets, y_pred=outputs, sample_weight=done.weights, training=False)
    found = model.compute_metrics(None, targets, outputs, done.weights)
    model.reset_metrics()
    return {name: float(value) for name, value in {**found, "loss": loss}.items()}
