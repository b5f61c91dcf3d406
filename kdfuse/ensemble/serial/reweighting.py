"""AdaBoost's rounds (SAMME): weights of rows, and of members."""

from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.combiners.combiner import Combiner
from kdfuse.ensemble.serial.samme_vote import SammeVote
from kdfuse.graph.heads import detect_head
from kdfuse.measure.predict import predict
from kdfuse.measure.quality import decisions
from kdfuse.splits import ArraySplit


class Reweighting:
    """The weights of the training rows, round by round. Zhu et al., 2009, algorithm 2; the numbers are scikit-learn's.

    Args:
        data: with arrays in the training split, whose own sample weights are those of the first round.
        learning_rate: the share of its weight that a member gets.
    """

    def __init__(self, data: Data, learning_rate: float) -> None:
        assert isinstance(data.train, ArraySplit)
        self._data, self._rate, split = data, learning_rate, data.train
        self.labels = _labels(split.y)
        given = np.ones(len(split)) if split.sample_weight is None else np.asarray(split.sample_weight, dtype="float64").reshape(-1)
        self.weights = given / given.sum()
        self.classes = max(int(data.classes), 2)
        self.shares: list[float] = []
        self.rows: list[dict[str, float]] = []
        self.notes: list[str] = []
        self.ended = False
        self.head: Any = "softmax" if int(data.classes) > 1 else "sigmoid"

    def data(self) -> Data:
        """The data for the next member; the weights of its rows have a mean of 1."""
        split = self._data.train
        assert isinstance(split, ArraySplit)
        weights = (self.weights * len(self.weights)).astype("float32")
        return self._data.with_splits(train=(split.x, split.y, weights))

    def take(self, model: keras.Model) -> bool:
        """Take a trained member in: whether it counts. It sets the weights of the next round."""
        head = detect_head(model, self._data.task, self._data.example(4))
        decided = decisions(predict(model, self._data.train), head).astype(int)
        wrong = decided != self.labels
        error = float(np.average(wrong, weights=self.weights))
        if error <= 0:
            self._counted(1.0, error)
            self.ended = True
            self.notes.append(f"Member {len(self.shares)} makes no error on the training rows: it is the last one.")
            return True
        if error >= 1 - 1 / self.classes:
            self.ended = True
            self.notes.append(f"A member after {len(self.shares)} was no better than chance (error {error:.3f}): it is left out.")
            return False
        share = self._rate * (np.log((1 - error) / error) + np.log(self.classes - 1))
        self._counted(float(share), error)
        self.weights = self.weights * np.exp(share * wrong)
        self.weights /= self.weights.sum()
        return True

    def combiner(self) -> Combiner:
        """The layer that counts the members' votes."""
        return SammeVote(self.shares, head=self.head, name="vote")

    def _counted(self, share: float, error: float) -> None:
        self.shares.append(share)
        self.rows.append({"error": error, "weight": share})


def _labels(y: Any) -> np.ndarray:
    labels = np.asarray(y)
    if labels.ndim == 2:
        labels = labels.argmax(-1) if labels.shape[-1] > 1 else labels[:, 0]
    return labels.astype(int)
