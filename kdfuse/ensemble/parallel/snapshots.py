"""Snapshots: several members out of one training run."""

from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.ensemble.combiners.combiner import Combiner
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.ensemble import beside
from kdfuse.ensemble.grown import Grown, check_count
from kdfuse.ensemble.members import take
from kdfuse.ensemble.parallel.parallel import bound, check_combiner, check_fit, combined
from kdfuse.ensemble.parallel.shelf import Shelf
from kdfuse.ensemble.parallel.training import check_training, innermost, refuse_stopping, with_train
from kdfuse.fitting.decay import Restarts
from kdfuse.graph.copy import copy_model
from kdfuse.settings import settings
from kdfuse.technique import Result
from kdfuse.train import Train, Trainer


@settings
class Snapshots(Grown):
    """Train once, with a learning rate that restarts, and combine the models of the ends of its cycles.

    The training's epochs are divided into cycles; in each the rate falls along a cosine and then starts again. Each
    snapshot is found near the one before, so they differ less than independent models, and all cost one training. An interrupted call
    goes on with the snapshots that it had.

    Huang et al., 2017, "Snapshot Ensembles: Train 1, get M for free" (arXiv 1704.00109).

    Attributes:
        cycles: members, at least 2; the epochs of the training are a multiple of it.
        combiner: as in `Parallel`.
        training: how to fit, `Train(...)` or `Distill(teacher)`, without `decay` and `stopping`: the cycles set the rate and end the run.
    """

    cycles: int = 5
    combiner: Combiner = Mean()
    training: Trainer = Train()

    def __post_init__(self) -> None:
        check_count("cycles", self.cycles, 2)
        check_combiner(self.combiner)
        check_training(self.training)
        train = innermost(self.training)
        if train.decay != "constant":
            raise ValueError(f"`training` of Snapshots: the cycles set the learning rate. Received: decay={train.decay!r}. Leave it out.")
        refuse_stopping("Snapshots", self.training, "every cycle must come to its end")
        if self._epochs % self.cycles:
            raise ValueError(f"`cycles`: expected a divisor of the training's {self._epochs} epochs. Received: cycles={self.cycles}.")

    def check(self, model: keras.Model, data: Data) -> None:
        self._training.check(model, data)
        check_fit("Snapshots", self.combiner, data)
        bound(self.combiner, take([model], data))
        self.combiner.weights_of(self.cycles)

    def apply(self, model: keras.Model, data: Data) -> Result:
        training = self._training
        student, shelf = training.private(model, data), Shelf(data)
        length = self._epochs // self.cycles
        fitted = training.fit(student, data, [_Keep(student, shelf, length)])
        last = training.public(student, data)
        models = []
        for cycle in range(1, self.cycles + 1):
            weights = shelf.get(f"cycle-{cycle}")
            if weights is None:
                raise RuntimeError(f"Snapshots: the training ended before the end of cycle {cycle}. Did the stream of `data` end?")
            copy = copy_model(last, data.example(2))
            copy.set_weights(weights)
            copy.name = f"cycle_{cycle}"
            models.append(copy)
        result = combined(take(models, data), data, self.combiner, beside(models))
        result.heads = dict.fromkeys(result.baselines, innermost(training).head)
        result.history, result.notes = fitted.history, [*fitted.notes, *result.notes]
        return result

    @property
    def _epochs(self) -> int:
        return innermost(self.training).epochs

    @property
    def _training(self) -> Any:
        return with_train(self.training, decay=Restarts(self.cycles))


class _Keep(keras.callbacks.Callback):
    """Keeps the weights at the end of each cycle."""

    def __init__(self, student: keras.Model, shelf: Shelf, length: int) -> None:
        super().__init__()
        self.student, self.shelf, self.length = student, shelf, length

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self.length == 0:
            self.shelf.put(f"cycle-{(epoch + 1) // self.length}", self.student.get_weights())
