"""Gradient boosting's rounds: what is left of the targets, and the weight of each member."""

from typing import Any

import keras
import numpy as np
from scipy import optimize, special

from kdfuse.data import Data
from kdfuse.ensemble.combiners.combiner import Combiner
from kdfuse.ensemble.serial.additive import Additive
from kdfuse.measure.predict import predict
from kdfuse.splits import ArraySplit

LEAST = 1e-6


class Residuals:
    """Targets of the training rows, round by round. Friedman, 2001, algorithm 1, with one step size a member.

    Args:
        data: with arrays in the training split.
        head: of the members: `"logits"`, `"sigmoid_logits"` or `"regression"`.
        learning_rate: the share of its best weight that a member gets.
    """

    def __init__(self, data: Data, head: str, learning_rate: float) -> None:
        assert isinstance(data.train, ArraySplit)
        self._data, self._rate, self.split = data, learning_rate, data.train
        self.head: Any = head
        y = np.asarray(self.split.y)
        weights = self.split.sample_weight
        self.weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype="float64").reshape(-1)
        if head == "regression":
            self.kind, self.truth = "squared", y.reshape(len(y), -1).astype("float64")
            self.start = np.average(self.truth, axis=0, weights=self.weights)
        elif int(data.classes) > 1:
            self.kind = "softmax"
            self.truth = y.astype("float64") if y.ndim == 2 and y.shape[-1] > 1 else np.eye(int(data.classes))[y.reshape(-1).astype(int)]
            shares = np.average(self.truth, axis=0, weights=self.weights)
            self.start = np.log(np.maximum(shares, LEAST))
        else:
            self.kind, self.truth = "sigmoid", y.reshape(-1, 1).astype("float64")
            share = np.clip(np.average(self.truth, axis=0, weights=self.weights), LEAST, 1 - LEAST)
            self.start = special.logit(share)
        self.values = np.tile(self.start, (len(y), 1))
        self.shares: list[float] = []
        self.rows: list[dict[str, float]] = []
        self.notes: list[str] = []
        self.ended = False

    def data(self) -> Data:
        """A regression of the residuals for the next member, without a validation split: what is left has none."""
        residuals = (self.truth - self._expected(self.values)).astype("float32")
        given: tuple[Any, ...] = (self.split.x, residuals)
        if self.split.sample_weight is not None:
            given = (*given, self.split.sample_weight)
        return Data(train=given, name=self._data.name, task="regression")

    def take(self, model: keras.Model) -> bool:
        """Take a trained member in, with the weight of least loss on the training rows times the rate."""
        step = predict(model, self.split).astype("float64").reshape(self.values.shape)
        before = self._loss(self.values)
        found = optimize.minimize_scalar(lambda share: self._loss(self.values + share * step), method="brent")
        share = self._rate * float(found.x)
        self.values = self.values + share * step
        self.shares.append(share)
        self.rows.append({"loss before": before, "loss": self._loss(self.values), "weight": share})
        return True

    def combiner(self) -> Combiner:
        """The layer that adds the members up."""
        return Additive(self.start.tolist(), self.shares, head="regression", name="sum")

    def _expected(self, values: np.ndarray) -> np.ndarray:
        if self.kind == "squared":
            return values
        return special.softmax(values, axis=-1) if self.kind == "softmax" else special.expit(values)  # type: ignore[no-any-return]

    def _loss(self, values: np.ndarray) -> float:
        if self.kind == "squared":
            each = ((self.truth - values) ** 2).sum(axis=-1)
        elif self.kind == "softmax":
            each = -(self.truth * special.log_softmax(values, axis=-1)).sum(axis=-1)
        else:
            each = (np.logaddexp(0, values) - self.truth * values).sum(axis=-1)
        return float(np.average(each, weights=self.weights))
