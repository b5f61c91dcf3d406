"""Population: small dense networks of different widths, depths and settings, trained side by side without TensorFlow."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from threadpoolctl import threadpool_limits

from kdfuse.arrays import leaves
from kdfuse.data import Data
from kdfuse.fitting.decay import Plateau, make_decay
from kdfuse.fitting.optimizers import base_rate, make_optimizer
from kdfuse.population.fit import DEFAULTS
from kdfuse.population.member import Member
from kdfuse.population.plan import Plan, read
from kdfuse.population.rules import make_rule, why_no_rule
from kdfuse.population.targets import Target, why_no_target
from kdfuse.splits import ArraySplit
from kdfuse.train import Train

LARGE = 2_000_000
"""Parameters from which TensorFlow is as fast."""
THREADS = 2


def why_not(model: keras.Model, training: Any, data: Data) -> str | None:
    """Why a model cannot train in a population, as the end of a sentence; None where it can.

    Args:
        model: what it begins with.
        training: how it would be fitted.
        data: what it is trained on.
    """
    if not isinstance(training, Train):
        return f"the training is {type(training).__name__}, not Train"
    plain = Train()
    for name in DEFAULTS:
        if getattr(training, name) != getattr(plain, name):
            return f"the training has `{name}`"
    if isinstance(make_decay(training.decay), Plateau):
        return "the decay watches each model's own curve"
    reason = why_no_rule(make_optimizer(training.optimizer, base_rate(training.optimizer, training.learning_rate)))
    if reason is not None:
        return reason
    if not isinstance(data.train, ArraySplit) or data.train.views != 1 or len(list(leaves(data.train.x))) != 1:
        return "the training rows are no single array"
    if isinstance(data.task, dict | list | tuple):
        return "there are several outputs"
    plan = read(model)
    if isinstance(plan, str):
        return plan
    if model.count_params() > LARGE:
        return f"it has more than {LARGE:,} parameters"
    return why_no_target(training.objective(model, data)["loss"], plan.activation)


class Population:
    """Networks that train side by side; each as its own `Train` would, but for rounding and the draws of dropout.

    Args:
        models: private ones, that `why_not` lets pass. Training begins with their weights; `write` gives them the trained ones.
        trainings: of each model.
        data: the training split is trained on.

    Attributes:
        epoch: epochs done.
        curves: for each member `train/loss`, one value an epoch.
    """

    def __init__(self, models: Sequence[keras.Model], trainings: Sequence[Train], data: Data) -> None:
        split = data.train
        assert isinstance(split, ArraySplit)
        self.epoch = 0
        self.curves: list[dict[str, list[float]]] = [{"train/loss": []} for _ in models]
        self._x = _rows(split.x)
        weights = split.sample_weight
        self._weights = None if weights is None else np.asarray(next(leaves(weights))[1], "float32")
        self._places = list(range(len(models)))
        self._members = [_Course(model, training, data) for model, training in zip(models, trainings, strict=True)]

    def advance(self, epochs: int) -> None:
        """Train on for some epochs."""
        with threadpool_limits(1), ThreadPoolExecutor(THREADS) as pool:
            jobs = [pool.submit(one.advance, self.epoch, epochs, self._x, self._weights) for one in self._members]
            for curve, job in zip(self.curves, jobs, strict=True):
                curve["train/loss"] += job.result()
        self.epoch += epochs

    def outputs(self, split: Any) -> np.ndarray:
        """What each member gives for every row of a split, the head's activation included: `[members, rows, columns]`."""
        rows = [_rows(x) for x, _, _ in split.batches(4096)]
        return np.stack([np.concatenate([one.member.outputs(x) for x in rows]) for one in self._members])

    def keep(self, places: Sequence[int]) -> None:
        """Drop all members but these, which are numbered anew in this order."""
        self._members = [self._members[place] for place in places]
        self.curves = [self.curves[place] for place in places]

    def write(self) -> None:
        """Give each member's model its weights."""
        for one in self._members:
            one.member.write()


class _Course:
    """One member and how it is trained."""

    def __init__(self, model: keras.Model, training: Train, data: Data) -> None:
        plan = read(model)
        assert isinstance(plan, Plan)
        self.training, self.member = training, Member(plan, training.l2, training.seed)
        optimizer = make_optimizer(training.optimizer, base_rate(training.optimizer, training.learning_rate))
        self.rule = make_rule(optimizer, self.member.weights.size)
        loss: Any = training.objective(model, data)["loss"]
        self.target = Target(loss, plan.activation, next(leaves(data.train.targets()))[1], int(plan.head.units))

    def advance(self, first: int, epochs: int, x: np.ndarray, weights: np.ndarray | None) -> list[float]:
        """Train from epoch `first` on; the mean loss of each epoch."""
        count, size = len(x), self.training.batch_size
        steps = -(-count // size)
        rates = _rates(self.training, first * steps, epochs * steps, steps)
        losses, at = [], 0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what diverges is told by its outputs
            for epoch in range(first, first + epochs):
                order = np.random.default_rng([self.training.seed, epoch]).permutation(count)
                total = 0.0
                for start in range(0, count, size):
                    rows = order[start : start + size]
                    shares = np.full(len(rows), 1 / len(rows), "float32") if weights is None else weights[rows] / np.float32(len(rows))
                    total += len(rows) * self.member.step(x[rows], rows, self.target, shares, self.rule, rates[at], first * steps + at + 1)
                    at += 1
                losses.append(total / count)
        return losses


def _rates(training: Train, first: int, count: int, steps: int) -> np.ndarray:
    """The learning rate at each step, float32, as a run of `Train` has it."""
    rate = np.float32(base_rate(training.optimizer, training.learning_rate))
    at = keras.ops.cast(np.arange(first, first + count), "float32") / steps
    return np.asarray(rate * make_decay(training.decay).at_epoch(at, training.epochs, steps)).astype("float32")


def _rows(x: Any) -> np.ndarray:
    """The one array of inputs as `[rows, features]`, float32."""
    array = np.asarray(next(leaves(x))[1])
    return array.reshape(len(array), -1).astype("float32", copy=False)
