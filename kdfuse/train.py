"""Train: all there is to say of fitting a model, and the only door to Keras's `fit`."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import keras
import numpy as np

from kdfuse import recording, runtime
from kdfuse.data import Data
from kdfuse.fitting.augment import augmented, check_augment, check_source
from kdfuse.fitting.checkpoint import Checkpoints, Shelf
from kdfuse.fitting.checks import check_fit
from kdfuse.fitting.compiled import carry_compile, objective
from kdfuse.fitting.decay import Decay, DecaySchedule, Plateau, make_decay, needs_steps
from kdfuse.fitting.execution import rows_measured, steps_together
from kdfuse.fitting.guards import EpochSeeds, Progress, StopAtNaN
from kdfuse.fitting.history import History
from kdfuse.fitting.live import compiled, keep, taken
from kdfuse.fitting.loan import precision, weight_penalty
from kdfuse.fitting.optimizers import Optimizer, base_rate, check_optimizer, make_optimizer
from kdfuse.fitting.pause import pauses_at
from kdfuse.fitting.stopping import EarlyStop, PlateauDecay, Stopping
from kdfuse.fitting.validation import Validation
from kdfuse.fitting.weighing import weighed
from kdfuse.graph.copy import copy_model
from kdfuse.home import home
from kdfuse.keys import state_folder
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique

_optimizers: WeakKeyDictionary[keras.Model, Any] = WeakKeyDictionary()
"""The user's optimizers of private copies, for `public`: `fit` compiles the copies with another one."""

Engine = Callable[[keras.Model], keras.Model]


def came_compiled(model: keras.Model) -> bool:
    """Whether a private copy is of a model that its user had compiled."""
    return model in _optimizers


class Fitted(NamedTuple):
    """What `fit` tells: curves with one value an epoch, and notes a reader should know."""

    history: dict[str, list[float]]
    notes: list[str]


@runtime_checkable
class Trainer(Protocol):
    """A technique that can also train a private copy in place: what every `training=` field takes."""

    def private(self, model: keras.Model, data: Data) -> keras.Model:
        """A copy of `model` that `fit` may train, compiled as `model` is."""

    def fit(self, model: keras.Model, data: Data, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Fitted:
        """Train `model` in place."""

    def public(self, model: keras.Model, data: Data) -> keras.Model:
        """The trained private copy as a plain model to give away."""


@settings
class Train(Technique):
    """Train a model on labelled data with Keras's `fit`.

    An interrupted call resumes from the last epoch when it is made again: the same settings, model and data (arrays).

    Attributes:
        epochs: passes over the training split, at least 1.
        batch_size: rows in a step, at least 1; the last short batch of an epoch is used. Streams bring their own batches.
        optimizer: a name (`sgd`, `momentum`, `nesterov`, `adam`, `adamw`, `nadam`, `rmsprop` ...) or a Keras optimizer,
            which is copied.
        learning_rate: above 0; None for the optimizer's own.
        decay: `constant`, `exponential`, `staircase`, `cosine`, `plateau`, or one of them with settings: `Cosine(warmup=2)`.
        l2: adds `l2 / 2 * sum(w ** 2)` over kernels to the loss, on top of what the layers' own regularizers add.
        loss: `auto` is the loss the model was compiled with, else the one that fits its head; or a Keras loss; or a dict
            or list of them for several outputs.
        augment: a Keras layer, or a Sequential of them, that the training inputs go through (`RandomFlip`, `RandomTranslation` ...), with
            other draws in every batch: a function of (seed, epoch, batch). None for none.
        class_weight: a dict of class to weight, `balanced` (rows / (classes * rows of the class)), or None; times the weights of rows.
        stopping: `Stopping(...)` for early stopping, or None.
        precision: `mixed_float16`, `mixed_bfloat16`, `float32`, or None for the model's own. The model that comes back
            computes as it did before.
        jit: True, False or `auto` (Keras decides: off on CPU). Measured on CPU only.
        strategy: a `tf.distribute` strategy by name (see `kdfuse.runtime.strategy`), or None. Measured on logical CPU devices only.
        seed: of the order of the rows and of dropout; each is a function of (seed, epoch).
        steps_per_execution: steps that TensorFlow runs in one go, a divisor of the steps of an epoch; `auto` takes the largest
            up to 32, and 1 for streams and where a callback wants to hear of every step. The arithmetic is the same.
        deterministic: switches on TensorFlow's deterministic operations, for the whole process.
        checkpoint: epochs between two checkpoints; 0 for none.
        head: what the model's outputs are: `logits`, `softmax`, `sigmoid`, `regression`, or `auto` to detect it.
    """

    epochs: int = 10
    batch_size: int = 32
    optimizer: str | Optimizer = "adam"
    learning_rate: float | None = None
    decay: str | Decay = "constant"
    l2: float = 0.0
    loss: Any = "auto"
    augment: keras.Layer | None = None
    class_weight: dict[int, float] | str | None = None
    stopping: Stopping | None = None
    precision: str | None = None
    jit: bool | str = "auto"
    strategy: str | None = None
    steps_per_execution: int | str = "auto"
    seed: int = 0
    deterministic: bool = False
    checkpoint: int = 1
    head: Any = "auto"

    keeps_structure = True

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("checkpoint", 0), ("seed", 0)):
            _integer(name, getattr(self, name), least)
        if self.steps_per_execution != "auto":
            _integer("steps_per_execution", self.steps_per_execution, 1)
        check_optimizer(self.optimizer, self.learning_rate)
        make_decay(self.decay)
        check_augment(self.augment)
        if not (isinstance(self.l2, int | float) and 0 <= self.l2 < float("inf")):
            raise ValueError(f"`l2`: expected a number of at least 0. Received: l2={self.l2!r}.")
        if self.precision is not None and self.precision not in runtime.PRECISIONS:
            raise ValueError(f"`precision`: expected one of {runtime.PRECISIONS} or None. Received: precision={self.precision!r}.")
        if self.jit not in (True, False, "auto"):
            raise ValueError(f"`jit`: expected True, False or 'auto'. Received: jit={self.jit!r}.")
        if self.jit is True and self.deterministic:
            raise ValueError("`jit`: XLA has no deterministic mode in Keras. Received: jit=True, deterministic=True. Give one of the two.")
        if not isinstance(self.class_weight, Mapping | None) and str(self.class_weight) != "balanced":
            raise ValueError(f"`class_weight`: expected a dict, 'balanced' or None. Received: class_weight={self.class_weight!r}.")
        if self.stopping is not None and not isinstance(self.stopping, Stopping):
            raise TypeError(f"`stopping`: expected kdfuse.Stopping(...) or None. Received: {self.stopping!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        check_fit(self, model, data)
        if self.augment is not None:
            check_source(data.train)

    def apply(self, model: keras.Model, data: Data) -> Result:
        student = self.private(model, data)
        fitted = self.fit(student, data)
        return Result(self.public(student, data), fitted.history, notes=fitted.notes, heads={"model": self.head})

    def private(self, model: keras.Model, data: Data) -> keras.Model:
        """A copy of `model` under this training's strategy, compiled as `model` is."""
        with runtime.strategy(self.strategy).scope():
            student = copy_model(model, data.example(2))
            if carry_compile(model, student):
                _optimizers[student] = make_optimizer(student.optimizer)
        return student

    def fit(
        self,
        model: keras.Model,
        data: Data,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        *,
        engine: Engine | None = None,
        validation: Validation | None = None,
    ) -> Fitted:
        """Train `model` in place.

        Args:
            model: a copy that belongs to the caller, from `private`.
            data: its training split is trained on, its validation split is measured after every epoch.
            callbacks: Keras callbacks; those with `get_state` and `set_state` are kept in checkpoints.
            engine: makes from `model` what is fitted: it holds and trains it. L2, precision, loss and kept weights are those of `model`.
            validation: measures the validation split in place of Keras.

        Returns:
            The curves and notes.

        Raises:
            NonFiniteLoss: the loss became NaN or infinite; the last good weights are in the model and in a file.
        """
        if self.deterministic:
            runtime.deterministic()
        decay, steps = make_decay(self.decay), data.train.steps(self.batch_size)
        rate = base_rate(self.optimizer, self.learning_rate)
        history, stops, until = History(data.validation is not None), [], pauses_at(callbacks, self.epochs)
        if isinstance(decay, Plateau):
            stops.append(PlateauDecay(decay, history, float(rate)))
        elif needs_steps(decay) and steps is not None:
            rate = DecaySchedule(float(rate), decay, steps, self.epochs)
        if self.stopping is not None:
            stops.append(EarlyStop(self.stopping, history, model))
        with precision(model, self.precision), weight_penalty(model, self.l2), runtime.strategy(self.strategy).scope():
            going = taken(model)
            if going is None:
                fitted = self._compiled(engine(model) if engine is not None else model, model, data, rate, callbacks, steps)
            else:
                fitted = going.again(rate)
            with self._shelf(data) as shelf:
                resumable = [history, *stops, *(callback for callback in callbacks if hasattr(callback, "get_state"))]
                checkpoints = Checkpoints(shelf, max(self.checkpoint, 1), resumable)
                start = checkpoints.resume(fitted, until) if fitted.weights else 0
                if going is not None and going.begun and not start:
                    raise RuntimeError("The checkpoints of a paused training are gone, so that it cannot go on. Run it again.")
                hooks: list[Any] = [validation] if validation is not None else []
                hooks += [EpochSeeds(self.seed), StopAtNaN(model, _kept()), history, *stops, *callbacks, checkpoints]
                if sys.stderr.isatty() and os.environ.get("KDFUSE_PROGRESS", "") != "off":
                    hooks.append(Progress(model.name, self.epochs, steps))
                stopped = start >= until or any(getattr(stop, "stopped", False) for stop in stops)
                self._run(fitted, data, self._held(model, data) if validation is None else None, hooks, start, steps, stopped)
                if shelf.open:
                    keep(model, fitted)
        history.close()
        notes = [f"Resumed at epoch {start + 1} of {self.epochs}."] if start else []
        notes += ["Another process is making the same run: this one keeps no checkpoints."] if shelf.taken else []
        notes += [] if data.indexable else ["The data is a stream: it trains as it comes, and an interrupted run begins again."]
        if len(next(iter(history.values.values()), [])) < self.epochs:
            notes.append(f"Stopped early after {len(history.values['train/loss'])} of {self.epochs} epochs.")
        return Fitted(history.values, notes)

    def _compiled(
        self, fitted: keras.Model, model: keras.Model, data: Data, rate: Any, callbacks: Sequence[Any], steps: int | None
    ) -> keras.Model:
        together = steps_together(self.steps_per_execution, steps if data.train.indexable else None, callbacks)
        execution = {"jit_compile": self.jit, "steps_per_execution": together}
        fitted.compile(optimizer=self._optimizer(rate), **execution, **self.objective(model, data))
        if fitted.built:  # else TensorFlow traces a step twice, the first time to make the optimizer's variables
            fitted.optimizer.build(fitted.trainable_variables)
        compiled(fitted)
        return fitted

    def public(self, model: keras.Model, data: Data) -> keras.Model:
        """The trained copy as a plain model, outside any strategy and compiled so that `evaluate` works.

        A model that came compiled keeps its optimizer, with a new state. Any other gets plain SGD, which has none: a saved file
        is then no larger than the weights.
        """
        objective = self.objective(model, data)
        plain = copy_model(model, data.example(2)) if self.strategy is not None else model
        own = _optimizers.pop(model, None)
        plain.compile(optimizer=own or "sgd", **objective)
        if own is not None:
            own.build(plain.trainable_variables)
        return plain

    def _optimizer(self, rate: Any) -> Optimizer:
        made = make_optimizer(self.optimizer, rate)
        return keras.optimizers.LossScaleOptimizer(made) if self.precision == "mixed_float16" else made

    def objective(self, model: keras.Model, data: Data) -> dict[str, Any]:
        """What `model` is compiled with: the loss, its weights and the metrics."""
        return objective(model, data, self.loss, self.head)

    @contextlib.contextmanager
    def _shelf(self, data: Data) -> Iterator[Shelf]:
        run = recording.current()
        key = run.key if run is not None and self.checkpoint and data.indexable else None
        shelf = Shelf(state_folder(key) / f"fit-{run.next('fit')}" if key and run is not None else None)
        try:
            yield shelf
        finally:
            shelf.close()

    def _held(self, model: keras.Model, data: Data) -> Any:
        split, means = data.validation, self.loss == "auto" and not came_compiled(model)
        return None if split is None else split.dataset(rows_measured(model, split, self.batch_size, means))

    def _run(self, fitted: keras.Model, data: Data, held: Any, hooks: list[Any], start: int, steps: int | None, stopped: bool) -> None:
        if stopped:  # it was interrupted after its last epoch: nothing is left but the best weights
            for hook in hooks:
                if isinstance(hook, EarlyStop):
                    hook.on_train_end()
            return
        source = weighed(data.train.dataset(self.batch_size, seed=self.seed, start=start, epochs=self.epochs), self.class_weight, data)
        if self.augment is not None:
            source = augmented(
                source, data.train, self.augment, self.seed, start * steps if steps is not None and data.train.indexable else None
            )
        fitted.fit(
            source,
            epochs=self.epochs,
            initial_epoch=start,
            steps_per_epoch=steps if data.train.indexable else None,
            shuffle=False,
            validation_data=held,
            callbacks=hooks,
            verbose=0,
        )


def _kept() -> Any:
    run = recording.current()
    return home("last-good", f"{run.id if run is not None else os.getpid()}.keras")


def _integer(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}`: expected an integer of at least {least}. Received: {name}={value!r}.")
