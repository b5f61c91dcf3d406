"""Gradient boosting's rounds: what is left of the targets, and the weight of each member."""

import dataclasses
from typing import Any

import keras
import numpy as np
from scipy import special

from kdfuse.data import Data
from kdfuse.ensemble.combiners.combiner import Combiner
from kdfuse.ensemble.serial.additive import Additive
from kdfuse.measure.predict import predict
from kdfuse.splits import ArraySplit

LEAST = 1e-6
HALVINGS = 30


@dataclasses.dataclass
class _Rows:
    """Rows of a split, their targets and what the sum so far gives for them, `[rows, columns]` both."""

    split: ArraySplit
    truth: np.ndarray
    values: np.ndarray


class Residuals:
    """Targets of the rows, round by round. Friedman, 2001, algorithm 1, with one step size a member.

    The step is Newton's, as in his algorithms for classes: for values it is the one of least squares; for classes the exact
    minimum would be infinite as soon as one member separates the training rows. It is halved while it makes the loss larger.

    Args:
        data: with arrays in the training split. The residuals of a validation split are known too, where it is of arrays.
        head: of the members: `"logits"`, `"sigmoid_logits"` or `"regression"`.
        learning_rate: the share of its step that a member gets.
    """

    def __init__(self, data: Data, head: str, learning_rate: float) -> None:
        assert isinstance(data.train, ArraySplit)
        self._data, self._rate = data, learning_rate
        self.head: Any = head
        self.kind = "squared" if head == "regression" else "softmax" if int(data.classes) > 1 else "sigmoid"
        truth = self._truth(data.train)
        given = data.train.sample_weight
        self.weights = np.ones(len(truth)) if given is None else np.asarray(given, dtype="float64").reshape(-1)
        mean = np.average(truth, axis=0, weights=self.weights)
        if self.kind == "squared":
            self.start = mean
        elif self.kind == "softmax":
            self.start = np.log(np.maximum(mean, LEAST))
        else:
            self.start = special.logit(np.clip(mean, LEAST, 1 - LEAST))
        self._train = self._begin(data.train)
        self._validation = self._begin(data.validation) if isinstance(data.validation, ArraySplit) else None
        self.shares: list[float] = []
        self.rows: list[dict[str, float]] = []
        self.notes: list[str] = []
        self.ended = False

    def data(self) -> Data:
        """A regression of the residuals for the next member."""
        validation = None if self._validation is None else self._left(self._validation)
        return Data(train=self._left(self._train), validation=validation, name=self._data.name, task="regression")

    def take(self, model: keras.Model) -> bool:
        """Take a trained member in, with its step on the training rows times the rate."""
        rows = self._train
        step = predict(model, rows.split).astype("float64").reshape(rows.values.shape)
        before = self._loss(rows.values)
        share = self._rate * self._step(step, before)
        rows.values = rows.values + share * step
        if self._validation is not None:
            held = self._validation
            held.values = held.values + share * predict(model, held.split).astype("float64").reshape(held.values.shape)
        self.shares.append(share)
        self.rows.append({"loss before": before, "loss": self._loss(rows.values), "weight": share})
        return True

    def combiner(self) -> Combiner:
        """The layer that adds the members up."""
        return Additive(self.start.tolist(), self.shares, head="regression", name="sum")

    def _step(self, step: np.ndarray, before: float) -> float:
        """Slope over curvature of the loss along `step`."""
        rows, expected = self._train, self._expected(self._train.values)
        slope = np.average((step * (rows.truth - expected)).sum(axis=-1), weights=self.weights)
        if self.kind == "squared":
            bends = (step**2).sum(axis=-1)
        elif self.kind == "softmax":
            bends = (expected * step**2).sum(axis=-1) - (expected * step).sum(axis=-1) ** 2
        else:
            bends = (expected * (1 - expected) * step**2).sum(axis=-1)
        share = float(slope / max(float(np.average(bends, weights=self.weights)), np.finfo("float64").tiny))
        for _ in range(HALVINGS):
            if np.isfinite(share) and self._loss(rows.values + share * step) <= before:
                return share
            share /= 2
        return 0.0

    def _begin(self, split: ArraySplit) -> _Rows:
        truth = self._truth(split)
        return _Rows(split, truth, np.tile(self.start, (len(truth), 1)))

    def _left(self, rows: _Rows) -> tuple[Any, ...]:
        residuals = (rows.truth - self._expected(rows.values)).astype("float32")
        weights = rows.split.sample_weight
        return (rows.split.x, residuals) if weights is None else (rows.split.x, residuals, weights)

    def _truth(self, split: ArraySplit) -> np.ndarray:
        y = np.asarray(split.y)
        if self.kind == "softmax" and (y.ndim == 1 or y.shape[-1] == 1):
            return np.eye(int(self._data.classes))[y.reshape(-1).astype(int)]
        return y.reshape(len(y), -1).astype("float64")

    def _expected(self, values: np.ndarray) -> np.ndarray:
        if self.kind == "squared":
            return values
        return special.softmax(values, axis=-1) if self.kind == "softmax" else special.expit(values)  # type: ignore[no-any-return]

    def _loss(self, values: np.ndarray) -> float:
        truth = self._train.truth
        if self.kind == "squared":
            each = ((truth - values) ** 2).sum(axis=-1)
        elif self.kind == "softmax":
            each = -(truth * special.log_softmax(values, axis=-1)).sum(axis=-1)
        else:
            each = (np.logaddexp(0, values) - truth * values).sum(axis=-1)
        return float(np.average(each, weights=self.weights))
