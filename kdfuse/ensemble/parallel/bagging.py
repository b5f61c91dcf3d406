"""Bagging: members of one architecture, each with other weights and on other rows."""

from collections.abc import Sequence

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.combiners.combiner import Combiner
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.ensemble import beside
from kdfuse.ensemble.grown import Grown, at_place, born, check_count, need_arrays, seed_of
from kdfuse.ensemble.members import take
from kdfuse.ensemble.parallel.parallel import check_combiner, check_fit, combined
from kdfuse.ensemble.predictions import predictions
from kdfuse.settings import settings
from kdfuse.technique import Result
from kdfuse.train import Train, Trainer


@settings
class Bagging(Grown):
    """Train copies of a model, each from new weights and on its own bootstrap sample, and combine them.

    Called with one model, of which the architecture counts; each member is a child run. Breiman, 1996, "Bagging Predictors"; without
    the bootstrap it is a deep ensemble (Lakshminarayanan et al., 2017, arXiv 1612.01474), for networks usually the better one.

    Attributes:
        members: how many, at least 2.
        bootstrap: whether each is trained on as many rows as there are, drawn with replacement, so that it lacks about 37 % of them; else
            all see all rows, each in an order of its own. On arrays alone.
        combiner: as in `Parallel`.
        training: how to fit each member, `Train(...)` or `Distill(teacher)`. Its seed is the base of all.
    """

    members: int = 5
    bootstrap: bool = False
    combiner: Combiner = Mean()
    training: Trainer = Train()

    def __post_init__(self) -> None:
        check_count("members", self.members, 2)
        check_combiner(self.combiner)
        if not isinstance(self.bootstrap, bool):
            raise ValueError(f"`bootstrap`: expected True or False. Received: {self.bootstrap!r}.")
        if not isinstance(self.training, Trainer):
            raise TypeError(f"`training`: expected Train(...) or Distill(teacher). Received: {self.training!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        super().check(model, data)
        check_fit("Bagging", self.combiner, data)
        born(model, data, 0, 0)
        if self.bootstrap:
            need_arrays("Bagging", data, "rows are drawn with replacement")

    def apply(self, model: keras.Model, data: Data) -> Result:
        seed, models = seed_of(self.training), []
        for place in range(self.members):
            own = self._sampled(data, seed, place)
            made, _ = at_place(self.training, place)(born(model, data, seed, place), own, name=f"member {place + 1}")  # type: ignore[operator]
            models.append(made)
        result = combined(take(models, data), data, self.combiner, beside(models))
        if self.bootstrap and data.task in ("classification", "binary"):
            result.metrics["ensemble/oob_accuracy"] = _out_of_bag(models, data, seed)
        return result

    def _sampled(self, data: Data, seed: int, place: int) -> Data:
        if not self.bootstrap:
            return data
        split = need_arrays("Bagging", data, "rows are drawn with replacement")
        return data.with_splits(train=split.take(drawn(len(split), seed, place)))


def drawn(rows: int, seed: int, place: int) -> np.ndarray:
    """The row numbers of a member's bootstrap sample."""
    return np.random.default_rng([seed, place, 1]).integers(rows, size=rows)


def _out_of_bag(models: Sequence[keras.Model], data: Data, seed: int) -> float:
    """Accuracy on the training rows, each judged by the mean of the members that have not seen it."""
    found = predictions(take(models, data), data, data.train)[0]
    rows = found.values.shape[1]
    unseen = np.stack([np.bincount(drawn(rows, seed, place), minlength=rows) == 0 for place in range(len(models))])
    judged = unseen.any(axis=0)
    shares = unseen[:, judged] / unseen[:, judged].sum(axis=0)
    chances = np.einsum("mr,mrc->rc", shares, found.values[:, judged])
    targets = np.asarray(found.targets)[judged]
    labels = targets.argmax(-1) if targets.shape == chances.shape and chances.shape[-1] > 1 else targets.reshape(len(chances))
    decided = chances.argmax(-1) if chances.shape[-1] > 1 else chances[:, 0] > 0.5
    return float(np.mean(decided == labels))
