"""Population: small dense networks of different widths, depths and settings, trained side by side without TensorFlow."""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from threadpoolctl import threadpool_limits

from kdfuse.arrays import leaves
from kdfuse.data import Data
from kdfuse.fitting.checkpoint import State
from kdfuse.fitting.decay import make_decay
from kdfuse.fitting.optimizers import base_rate, make_optimizer
from kdfuse.population.fit import why_not_fitted
from kdfuse.population.member import Member
from kdfuse.population.plan import Plan, read
from kdfuse.population.rules import make_rule, why_no_rule
from kdfuse.population.targets import Target, why_no_columns, why_no_target
from kdfuse.population.watch import Watch, why_not_watched
from kdfuse.splits import ArraySplit
from kdfuse.train import Train

LARGE = 2_000_000
"""Parameters from which TensorFlow is as fast."""
THREADS = os.cpu_count() or 1


def why_not(model: keras.Model, training: Any, data: Data) -> str | None:
    """Why a model cannot train in a population, as the end of a sentence; None where it can.

    Args:
        model: what it begins with.
        training: how it would be fitted.
        data: what it is trained on.
    """
    reason = why_not_fitted(training, data)
    if reason is not None:
        return reason
    rate = base_rate(training.optimizer, training.learning_rate)
    if not isinstance(rate, float):
        return "the optimizer has a schedule of its own"
    reason = why_no_rule(_settings_of(training.optimizer))
    if reason is not None:
        return reason
    plan = read(model)
    if isinstance(plan, str):
        return plan
    if tuple(model.inputs[0].shape[1:]) != tuple(next(leaves(data.example(1)))[1].shape[1:]):
        return "its input is not of the shape of the rows"
    if model.count_params() > LARGE:
        return f"it has more than {LARGE:,} parameters"
    objective = training.objective(model, data)
    reason = None if training.stopping is None else why_not_watched(training.stopping, objective, data)
    reason = reason or why_no_target(objective["loss"], plan.activation)
    return reason or why_no_columns(objective["loss"], next(leaves(data.train.targets()))[1], int(plan.head.units))


class Population:
    """Networks that train side by side; each as its own `Train` would, but for rounding and the draws of dropout.

    Args:
        models: private ones, that `why_not` lets pass. Training begins with their weights; `write` gives them the trained ones.
        trainings: of each model.
        data: the training split is trained on.

    Attributes:
        epoch: epochs done.
        curves: for each member `train/loss`, one value an epoch; of one that has `stopping` also `validation/loss` and
            `validation/accuracy`, where there are these.
    """

    def __init__(self, models: Sequence[keras.Model], trainings: Sequence[Train], data: Data) -> None:
        split = data.train
        assert isinstance(split, ArraySplit)
        self.epoch = 0
        self.curves: list[dict[str, list[float]]] = [{"train/loss": []} for _ in models]
        self._x = _rows(split.x)
        held = data.validation
        watched = isinstance(held, ArraySplit) and any(training.stopping is not None for training in trainings)
        rows = _rows(held.x) if watched and isinstance(held, ArraySplit) else None
        weights = split.sample_weight
        self._weights = None if weights is None else np.asarray(next(leaves(weights))[1], "float32").reshape(-1)
        self._places = list(range(len(models)))
        self._members = [_Course(model, training, data, rows) for model, training in zip(models, trainings, strict=True)]

    def advance(self, epochs: int) -> None:
        """Train on for some epochs."""
        with threadpool_limits(1), ThreadPoolExecutor(THREADS) as pool:
            jobs = [pool.submit(one.advance, self.epoch, epochs, self._x, self._weights) for one in self._members]
            for curves, job in zip(self.curves, jobs, strict=True):
                for name, values in job.result().items():
                    curves.setdefault(name, []).extend(values)
        self.epoch += epochs

    def outputs(self, split: Any) -> np.ndarray:
        """What each member gives for every row of a split, the head's activation included: `[members, rows, columns]`.

        One whose `stopping` restores the best epoch gives what it gave then.
        """
        rows, found = [_rows(x) for x, _, _ in split.batches(4096)], []
        with threadpool_limits(1):  # threads that wait for each other take longer than these products
            for one in self._members:
                with one.at_best():
                    found.append(np.concatenate([one.member.outputs(x) for x in rows]))
        return np.stack(found)

    def keep(self, places: Sequence[int]) -> None:
        """Drop all members but these, which are numbered anew in this order."""
        self._members = [self._members[place] for place in places]
        self.curves = [self.curves[place] for place in places]

    def state(self) -> State:
        """All that a population of the same models, trainings and data needs to go on exactly."""
        kept = {f"member-{place}": one.arrays() for place, one in enumerate(self._members)}
        return State(
            {"epoch": self.epoch, "curves": self.curves}, {name: [array.copy() for array in arrays] for name, arrays in kept.items()}
        )

    def restore(self, state: State) -> None:
        """Go on from a state.

        Raises:
            ValueError: it is that of other members.
        """
        own = [one.arrays() for one in self._members]
        given = [state.arrays.get(f"member-{place}", []) for place in range(len(own))]
        if len(state.arrays) != len(own) or [[one.shape for one in arrays] for arrays in own] != [
            [one.shape for one in arrays] for arrays in given
        ]:
            raise ValueError(
                "`state`: expected that of a population of the same members. Received: one of other members. Make the population of "
                "the models and trainings that the state was taken from, and `keep` the same of them."
            )
        for mine, theirs in zip(own, given, strict=True):
            for array, value in zip(mine, theirs, strict=True):
                array[...] = value
        self.epoch = int(state.meta["epoch"])
        self.curves = [{name: list(curve) for name, curve in one.items()} for one in state.meta["curves"]]
        for one, curves in zip(self._members, self.curves, strict=True):
            if one.watch is not None:
                one.watch.see_again(curves[one.watch.stopping.monitor])

    def write(self) -> None:
        """Give each member's model its weights: those of its best epoch where its `stopping` restores them."""
        for one in self._members:
            with one.at_best():
                one.member.write()


class _Course:
    """One member and how it is trained."""

    def __init__(self, model: keras.Model, training: Train, data: Data, held: np.ndarray | None) -> None:
        plan = read(model)
        assert isinstance(plan, Plan)
        self.training, self.member = training, Member(plan, training.l2, training.seed)
        self.rule = make_rule(_settings_of(training.optimizer), self.member.weights.size)
        self.rates = np.zeros(0, "float32")
        objective, columns = training.objective(model, data), int(plan.head.units)
        self.target = Target(objective["loss"], plan.activation, next(leaves(data.train.targets()))[1], columns)
        self.watch: Watch | None = None
        if training.stopping is not None:
            self.watch = Watch(training.stopping, objective, plan.activation, columns, data, held, self._shown())

    def _shown(self) -> list[np.ndarray]:
        """What the outputs depend on."""
        return [self.member.weights, *(array for pair in self.member.moving if pair is not None for array in pair)]

    def arrays(self) -> list[np.ndarray]:
        """What changes from step to step, and what is kept of the best epoch."""
        return [*self._shown(), *self.rule.moments, *(self.watch.kept if self.watch is not None else [])]

    @contextlib.contextmanager
    def at_best(self) -> Iterator[None]:
        """Inside, the member has the weights of its best epoch, where they are kept."""
        if self.watch is not None:
            self.watch.swap()
        try:
            yield
        finally:
            if self.watch is not None:
                self.watch.swap()

    def advance(self, first: int, epochs: int, x: np.ndarray, weights: np.ndarray | None) -> dict[str, list[float]]:
        """Train from epoch `first` on, unless it has stopped; its curves."""
        count, size = len(x), self.training.batch_size
        steps = -(-count // size)
        if len(self.rates) < (first + epochs) * steps:  # at once: how a vector is cut shows in the last bit of its cosines
            self.rates = _rates(self.training, max(self.training.epochs, first + epochs) * steps, steps)
        found: dict[str, list[float]] = {}
        at = first * steps
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what diverges is told by its outputs
            for epoch in range(first, first + epochs):
                if self.watch is not None and self.watch.stopped:
                    break
                self.member.begin(epoch)
                order = np.random.default_rng([self.training.seed, epoch]).permutation(count)
                total = 0.0
                for start in range(0, count, size):
                    rows = order[start : start + size]
                    shares = np.full(len(rows), 1 / len(rows), "float32") if weights is None else weights[rows] / np.float32(len(rows))
                    total += len(rows) * self.member.step(x[rows], rows, self.target, shares, self.rule, self.rates[at], at + 1)
                    at += 1
                told = {"train/loss": total / count} if self.watch is None else self.watch.after(epoch, total / count, self.member)
                for name, value in told.items():
                    found.setdefault(name, []).append(value)
        return found


def _settings_of(optimizer: Any) -> Any:
    """An optimizer that tells its settings, whatever the learning rate is."""
    return _named(optimizer) if isinstance(optimizer, str) else make_optimizer(optimizer)


@functools.cache
def _named(name: str) -> Any:
    return make_optimizer(name)


def _rates(training: Train, count: int, steps: int) -> np.ndarray:
    """The learning rate at each step, float32, as a run of `Train` has it."""
    rate = np.float32(base_rate(training.optimizer, training.learning_rate))
    at = keras.ops.cast(np.arange(count), "float32") / steps
    return np.asarray(rate * make_decay(training.decay).at_epoch(at, training.epochs, steps)).astype("float32")


def _rows(x: Any) -> np.ndarray:
    """The one array of inputs as `[rows, features]`, float32."""
    array = np.asarray(next(leaves(x))[1])
    return array.reshape(len(array), -1).astype("float32", copy=False)
