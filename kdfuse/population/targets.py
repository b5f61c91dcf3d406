"""Losses in NumPy: the value of each row and the gradient with respect to the logits."""

from typing import Any

import keras
import numpy as np
from scipy.special import expit

EPSILON = 1e-7


class Target:
    """A loss of Keras on the targets of all rows, for a head whose activation it knows.

    Args:
        loss: one that `why_no_target` lets pass.
        activation: of the head.
        y: the targets `[rows]`, `[rows, 1]` or `[rows, columns]`.
        columns: of the head.
    """

    def __init__(self, loss: Any, activation: str, y: Any, columns: int) -> None:
        y = np.asarray(y)
        self.kind = type(loss).__name__
        if self.kind == "SparseCategoricalCrossentropy":
            self.y = (y[:, 0] if y.ndim == 2 else y).astype("int64")
        else:
            self.y = (y[:, None] if y.ndim == 1 else y).astype("float32")
        smoothing = float(getattr(loss, "label_smoothing", 0.0) or 0.0)
        if smoothing and self.kind == "CategoricalCrossentropy":
            self.y = self.y * np.float32(1 - smoothing) + np.float32(smoothing / columns)
        elif smoothing:
            self.y = self.y * np.float32(1 - smoothing) + np.float32(smoothing / 2)

    def at(self, rows: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The loss of each row `[rows]` and its gradient `[rows, columns]`.

        Args:
            rows: their numbers.
            logits: `[rows, columns]`, before the head's activation.
        """
        y = self.y[rows]
        if self.kind == "MeanSquaredError":
            gap = logits - y
            return np.mean(np.square(gap), axis=-1), gap * np.float32(2 / gap.shape[1])
        if self.kind == "BinaryCrossentropy":
            value = np.maximum(logits, 0) - logits * y + np.log1p(np.exp(-np.abs(logits)))
            return value.mean(axis=-1), (expit(logits) - y) / np.float32(logits.shape[1])
        shifted = logits - logits.max(axis=-1, keepdims=True)
        parts = np.exp(shifted)
        total = parts.sum(axis=-1, keepdims=True)
        gradient = parts / total
        logs = shifted - np.log(total)
        if self.kind == "SparseCategoricalCrossentropy":
            at = np.arange(len(y))
            gradient[at, y] -= 1
            return -logs[at, y], gradient
        return -(y * logs).sum(axis=-1), gradient - y  # as TensorFlow has it: targets are taken to sum to 1

    def hits(self, rows: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """How right each row is `[rows]`: 1 where its class has the largest logit; of independent columns the share that is right.

        Args:
            rows: their numbers.
            logits: `[rows, columns]`, before the head's activation.
        """
        y = self.y[rows]
        if self.kind == "BinaryCrossentropy":
            return ((y > 0.5) == (logits > 0)).mean(axis=-1)  # type: ignore[no-any-return]
        return (logits.argmax(axis=-1) == (y if y.ndim == 1 else y.argmax(axis=-1))).astype("float64")


def why_no_target(loss: Any, activation: str) -> str | None:
    """Why a loss on such a head has no form here, as the end of a sentence; None where it has one."""
    kind = type(loss)
    name = kind.__name__
    losses = keras.losses
    if kind not in (
        losses.SparseCategoricalCrossentropy,
        losses.CategoricalCrossentropy,
        losses.BinaryCrossentropy,
        losses.MeanSquaredError,
    ):
        return f"the loss is {name}"
    if loss.reduction != "sum_over_batch_size":
        return f"the loss {name} has another reduction than the mean"
    if getattr(loss, "ignore_class", None) is not None or getattr(loss, "axis", -1) != -1:
        return f"the loss {name} has an axis or a class of its own to ignore"
    wanted = {"MeanSquaredError": "linear", "BinaryCrossentropy": "sigmoid"}.get(name, "softmax")
    if getattr(loss, "from_logits", False):
        wanted = "linear"
    return None if activation == wanted else f"the loss {name} is on a head that is {activation}"


def why_no_columns(loss: Any, y: Any, columns: int) -> str | None:
    """Why targets do not fit a head of so many columns, as the end of a sentence; None where they do. Keras then says what is wrong."""
    shape, wanted = np.shape(y)[1:], 1 if isinstance(loss, keras.losses.SparseCategoricalCrossentropy) else columns
    fits = shape == (wanted,) or (not shape and wanted == 1)
    return None if fits else f"the loss {type(loss).__name__} wants targets of {wanted} columns"
