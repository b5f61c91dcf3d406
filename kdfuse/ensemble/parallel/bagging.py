"""Bagging: members of one architecture, each with other weights and on other rows."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.combiners.combiner import Combiner
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.ensemble import beside
from kdfuse.ensemble.grown import Grown, at_place, born, check_count, need_arrays, seed_of
from kdfuse.ensemble.members import Member, take
from kdfuse.ensemble.parallel.parallel import bound, check_combiner, check_fit, combined
from kdfuse.ensemble.parallel.training import check_training, innermost
from kdfuse.ensemble.predictions import predictions
from kdfuse.fitting.compiled import carry_compile
from kdfuse.measure.quality import quality
from kdfuse.population.fit import fit_together, why_not
from kdfuse.settings import settings
from kdfuse.technique import Result
from kdfuse.train import Train, Trainer

OOB = "ensemble/oob_accuracy"


@settings
class Bagging(Grown):
    """Train copies of a model, each from new weights and on its own bootstrap sample, and combine them.

    Called with one model, of which the architecture counts; each member is a child run, which does not read the test split. With the
    bootstrap `ensemble/oob_accuracy` is the accuracy on training rows, each judged by the mean of the members that have not seen it: an
    estimate that costs no rows. Breiman, 1996, "Bagging Predictors"; without the bootstrap it is a deep ensemble (Lakshminarayanan et
    al., 2017, arXiv 1612.01474), for networks usually the better one.

    Attributes:
        members: how many, at least 2.
        bootstrap: whether each is trained on as many rows as there are, drawn with replacement, so that it lacks about 37 % of them; else
            all see all rows, each in an order of its own. On arrays alone.
        combiner: as in `Parallel`.
        training: how to fit each member, `Train(...)` or `Distill(teacher)`. Its seed is the base of all.
        at_once: whether all members are trained as one batched computation: several times faster for small dense networks, with the
            same weights but for rounding (and other draws of dropout). Then they are no child runs, and nothing is resumed.
    """

    members: int = 5
    bootstrap: bool = True
    combiner: Combiner = Mean()
    training: Trainer = Train()
    at_once: bool = False

    def __post_init__(self) -> None:
        check_count("members", self.members, 2)
        check_combiner(self.combiner)
        if not isinstance(self.bootstrap, bool):
            raise ValueError(f"`bootstrap`: expected True or False. Received: bootstrap={self.bootstrap!r}.")
        check_training(self.training)
        if not isinstance(self.at_once, bool):
            raise ValueError(f"`at_once`: expected True or False. Received: at_once={self.at_once!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        super().check(model, data)
        check_fit("Bagging", self.combiner, data)
        bound(self.combiner, take([born(model, data, 0, 0)], data))
        self.combiner.weights_of(self.members)
        if self.at_once:
            reason = why_not([self._fresh(model, data, 0)], data, self.training)
            if reason is not None:
                raise ValueError(f"`at_once`: expected False, for {reason}. Received: True. The members are then trained one by one.")
        if self.bootstrap:
            need_arrays("Bagging", data, "rows are drawn with replacement (or give bootstrap=False)")
            if not data.labelled:
                raise ValueError("`bootstrap`: expected labelled training rows. Received: rows without labels. Give bootstrap=False.")

    def apply(self, model: keras.Model, data: Data) -> Result:
        seed = seed_of(self.training)
        models: list[keras.Model] = []
        history: dict[str, list[float]] = {}
        if self.at_once:
            models, history = self._together(model, data, seed)
        else:
            for place in range(self.members):
                own, fresh = self._sampled(data, seed, place), self._fresh(model, data, place)
                made, _ = at_place(self.training, place)(fresh, own, name=f"member {place + 1}")
                models.append(made)
        members = take(models, data)
        result = combined(members, data, self.combiner, beside(models))
        result.history = history
        result.heads = dict.fromkeys(result.baselines, innermost(self.training).head)
        if self.bootstrap:
            rows = data.train.rows or 0
            result.metrics.update(out_of_bag(members, data, [drawn(rows, seed, place) for place in range(self.members)]))
        return result

    def _fresh(self, model: keras.Model, data: Data, place: int) -> keras.Model:
        fresh = born(model, data, seed_of(self.training), place)
        carry_compile(model, fresh)
        return fresh

    def _together(self, model: keras.Model, data: Data, seed: int) -> tuple[list[keras.Model], dict[str, list[float]]]:
        """All members trained as one, and the means of their curves."""
        training: Any = self.training
        students = [training.private(self._fresh(model, data, place), data) for place in range(self.members)]
        rows = data.train.rows or 0
        samples = [drawn(rows, seed, place) for place in range(self.members)] if self.bootstrap else None
        curves = fit_together(students, data, training, samples, [at_place(training, place).seed for place in range(self.members)])
        means = {name: np.mean([one[name] for one in curves], axis=0).tolist() for name in curves[0]}
        return [training.public(one, data) for one in students], means

    def _sampled(self, data: Data, seed: int, place: int) -> Data:
        if data.labelled:  # of rows without labels, the test split may be what tells the classes
            data = data.with_splits(test=None)
        if not self.bootstrap:
            return data
        split = need_arrays("Bagging", data, "rows are drawn with replacement")
        return data.with_splits(train=split.take(drawn(len(split), seed, place)))


def drawn(rows: int, seed: int, place: int) -> np.ndarray:
    """The row numbers of a member's bootstrap sample."""
    return np.random.default_rng([seed, place, 1]).integers(rows, size=rows)


def out_of_bag(members: Sequence[Member], data: Data, samples: Sequence[np.ndarray]) -> dict[str, float]:
    """The accuracy on training rows, each judged by the mean of the members that have not seen it.

    Args:
        members: of one ensemble.
        data: whose training rows are meant.
        samples: for each member the numbers of the rows that it was trained on.

    Returns:
        `ensemble/oob_accuracy`, of several outputs the mean; empty for a regression, and where all members have seen every row.
    """
    rows = data.train.rows or 0
    unseen = np.stack([np.bincount(sample, minlength=rows) == 0 for sample in samples])
    judged = unseen.any(axis=0)
    figures: list[float] = []
    for part in predictions(members, data, data.train) if judged.any() else []:
        if part.task == "regression":
            continue
        shares = unseen[:, judged] / unseen[:, judged].sum(axis=0)
        chances = np.einsum("mr,mr...->r...", shares, part.values[:, judged])
        weights: Any = None if part.weights is None else np.asarray(part.weights)[judged]
        figures.append(quality(chances, np.asarray(part.targets)[judged], part.head, part.task, weights)["accuracy"])
    return {OOB: float(np.mean(figures))} if figures else {}
