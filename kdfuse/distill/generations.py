"""Born-again networks: each generation learns from the one before."""

from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.distill import checks
from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.graph.copy import copy_model
from kdfuse.graph.renew import renew
from kdfuse.report import Report
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Train


@settings
class BornAgain(Technique):
    """Train a model, then the same architecture again and again, each time with new weights and the last one as its teacher.

    Called as `models, report = BornAgain()(model, data)`. The models are generation 0, trained on the labels from the weights
    given, and `generations` more; their mean is often better than each of them. The report's figures are those of the last
    one, its `delta/teacher/...` is to the one before, and `mean/...` is over all. Each generation is a child run.

    Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-Again Neural Networks, 2018 (arXiv 1805.04770). It uses T = 1 and
    one to three generations, on soft targets alone (`label_weight=0`) or with the labels.

    Attributes:
        generations: how many are born again, at least 1.
        losses: as in `Distill`.
        training: how to fit each generation. The new weights of generation g are a function of (seed, g).
        label_weight: as in `Distill`.
        loss_weights: as in `Distill`.
        teacher: a trained model that is generation 0, in place of one that is trained. It stays as it is.
    """

    generations: int = 3
    losses: tuple[keras.distillation.DistillationLoss, ...] = (SoftTargets(1.0),)
    training: Train = Train()
    label_weight: float = 0.5
    loss_weights: tuple[float, ...] | None = None
    teacher: keras.Model | None = None

    row = "generation"
    gives_models = True

    def __post_init__(self) -> None:
        if isinstance(self.generations, bool) or not isinstance(self.generations, int) or self.generations < 1:
            raise ValueError(f"`generations`: expected an integer of at least 1. Received: generations={self.generations!r}.")
        if not isinstance(self.training, Train):
            raise TypeError(f"`training`: expected kdfuse.Train(...). Received: {self.training!r}.")
        checks.check_losses(self.losses, "mean")
        checks.check_loss_weights(self.loss_weights, self.label_weight, len(self.losses))
        if self.teacher is not None:
            checks.check_teachers((self.teacher,), "mean", None)

    def check(self, model: keras.Model, data: Data) -> None:
        example = data.example(2)
        self.training.check(model, data)
        renew(model, 0, example)
        self._distill(copy_model(model, example) if self.teacher is None else self.teacher).check(model, data)

    def apply(self, model: keras.Model, data: Data) -> Result:
        models, rows = [], tuple(f"generation {place}" for place in range(self.generations + 1))
        reports: dict[str, Report] = {}
        if self.teacher is None:
            first, reports[rows[0]] = self.training(model, data, name=rows[0])
            models.append(first)
        else:
            models.append(self.teacher)
        for place in range(1, self.generations + 1):
            seed = int(np.random.default_rng([self.training.seed, place]).integers(2**31))
            born = renew(model, seed, data.example(2))
            made, reports[rows[place]] = self._distill(models[-1])(born, data, name=rows[place])
            models.append(made)
        heads: dict[str, Any] = {"model": self.training.head} if self.teacher is None else {}
        return Result(tuple(models), rows=rows, chosen=-1, reports=reports, heads=heads)

    def _distill(self, teacher: keras.Model) -> Distill:
        return Distill(
            teacher, losses=self.losses, training=self.training, label_weight=self.label_weight, loss_weights=self.loss_weights,
        )  # fmt: skip
