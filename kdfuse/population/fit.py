"""Train many models of one structure at once: one batched model, one optimizer, one traced step."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.arrays import leaves
from kdfuse.data import Data
from kdfuse.fitting.decay import DecaySchedule, Plateau, make_decay, needs_steps
from kdfuse.fitting.optimizers import base_rate, make_optimizer
from kdfuse.population.stacked import Stacked, why_not_stacked
from kdfuse.splits import ArraySplit
from kdfuse.train import Train

BY_ELEMENT = ("SGD", "RMSprop", "Adam", "AdamW", "Nadam", "Adamax", "Adagrad", "Adadelta", "Lion")
"""Optimizers that move each weight by its own gradient alone, so that stacked weights move as they do apart."""
DEFAULTS = ("augment", "class_weight", "precision", "strategy", "deterministic")


def why_not(models: Sequence[keras.Model], data: Data, training: Any) -> str | None:
    """Why models cannot be trained at once, as the end of a sentence; None where they can.

    Args:
        models: of one structure.
        data: for all of them.
        training: how to fit each.
    """
    reason = why_not_fitted(training, data)
    if reason is not None:
        return reason
    if training.stopping is not None:
        return "the training has `stopping`"
    optimizer = make_optimizer(training.optimizer, base_rate(training.optimizer, training.learning_rate))
    if type(optimizer).__name__ not in BY_ELEMENT or any(
        getattr(optimizer, name, None) for name in ("clipnorm", "global_clipnorm", "use_ema")
    ):
        return f"the optimizer {type(optimizer).__name__} looks at more than a weight's own gradient"
    if not isinstance(training.objective(models[0], data)["loss"], keras.losses.Loss):
        return "the loss is no keras.losses.Loss"
    return why_not_stacked(models)


def why_not_fitted(training: Any, data: Data) -> str | None:
    """Why a training or its data are more than several models at once can have, as the end of a sentence; None where they are not."""
    if not isinstance(training, Train):
        return f"the training is {type(training).__name__}, not Train"
    plain = Train()
    for name in DEFAULTS:
        if getattr(training, name) != getattr(plain, name):
            return f"the training has `{name}`"
    if isinstance(make_decay(training.decay), Plateau):
        return "the decay watches each model's own curve"
    if not isinstance(data.train, ArraySplit) or data.train.views != 1 or len(list(leaves(data.train.x))) != 1:
        return "the training rows are no single array"
    return "there are several outputs" if isinstance(data.task, dict | list | tuple) else None


def fit_together(
    models: Sequence[keras.Model], data: Data, training: Train, rows: Sequence[np.ndarray] | None, seeds: Sequence[int]
) -> list[dict[str, list[float]]]:
    """Train models in place, each as `training` with its own seed would on its own rows.

    Every model sees its batches in the order that `Train(seed=...)` has, so that without dropout the weights are those of training one
    after another, but for rounding.

    Args:
        models: private copies, which `why_not` lets pass.
        data: training rows are gathered from it; the validation rows are measured after every epoch.
        training: the settings of all, but for the seed.
        rows: for each model the numbers of its training rows, equally many; None for all.
        seeds: of the order of the rows, one for each model.

    Returns:
        For each model the curves `train/loss`, and `validation/loss` where there is a validation split.
    """
    split = data.train
    assert isinstance(split, ArraySplit)
    step, net = _Step(models, data, training), Stacked(models)
    count = len(split) if rows is None else len(rows[0])
    steps = -(-count // training.batch_size)
    optimizer = _optimizer(training, steps)
    optimizer.build(net.variables)
    step.bind(net, optimizer)
    curves: list[dict[str, list[float]]] = [{"train/loss": []} for _ in models]
    whole = count // training.batch_size
    for epoch in range(training.epochs):
        orders = [np.random.default_rng([seed, epoch]).permutation(count) for seed in seeds]
        order = np.stack(orders if rows is None else [own[one] for own, one in zip(rows, orders, strict=True)]).astype("int32")
        losses = np.zeros(len(models))
        if whole:
            batches = order[:, : whole * training.batch_size].reshape(len(models), whole, training.batch_size)
            losses += step.many(tf.constant(batches.transpose(1, 0, 2))).numpy() * training.batch_size
        if whole * training.batch_size < count:
            rest = order[:, whole * training.batch_size :]
            losses += step.many(tf.constant(rest[None])).numpy() * rest.shape[1]
        for curve, loss in zip(curves, losses / count, strict=True):
            curve["train/loss"].append(float(loss))
        if data.validation is not None:
            for curve, loss in zip(curves, step.measure(data.validation), strict=True):
                curve.setdefault("validation/loss", []).append(float(loss))
    net.write()
    return curves


class _Step:
    """One step of all models, and many in one traced loop."""

    def __init__(self, models: Sequence[keras.Model], data: Data, training: Train) -> None:
        split = data.train
        assert isinstance(split, ArraySplit)
        self.loss: Any = training.objective(models[0], data)["loss"]
        self.l2, self.count = training.l2, len(models)
        with tf.device("CPU:0"):
            self.x = tf.constant(next(leaves(split.x))[1])
            self.y = self._labels(next(leaves(split.y))[1])
            self.weights = None if split.sample_weight is None else tf.constant(next(leaves(split.sample_weight))[1], "float32")

    def bind(self, net: Stacked, optimizer: Any) -> None:
        """Trace steps of a net by an optimizer."""
        self.net, self.optimizer = net, optimizer

        def one(rows: Any) -> Any:
            x, y = tf.gather(self.x, rows), tf.gather(self.y, rows)
            with tf.GradientTape() as tape:
                each = self.losses(y, net(x, training=True))
                if self.weights is not None:
                    each = each * tf.gather(self.weights, rows)
                loss = tf.reduce_mean(each, axis=1)
                loss = loss + self.penalty()
                # Each member's loss has a gradient for its own weights alone.
                total = tf.reduce_sum(loss)
            gradients = tape.gradient(total, [variable.value for variable in net.variables])
            optimizer.apply(gradients, net.variables)
            return loss

        @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
        def many(batches: Any) -> Any:
            def body(at: Any, sums: Any) -> tuple[Any, Any]:
                return at + 1, sums + one(batches[at])

            return tf.while_loop(lambda at, _: at < tf.shape(batches)[0], body, (0, tf.zeros(self.count)))[1]

        self.many = many
        self.forward = tf.function(lambda x: net(tf.broadcast_to(x[None], [self.count, *x.shape])), autograph=False)

    def penalty(self) -> Any:
        """What L2 adds to the loss of each member."""
        if not self.l2:
            return 0.0
        squares = [tf.reduce_sum(kernel.value**2, axis=list(range(1, len(kernel.shape)))) for kernel in self.net.kernels]
        return 0.5 * self.l2 * tf.add_n(squares)

    def losses(self, targets: Any, outputs: Any) -> Any:
        """The loss of each row `[members, rows]`."""
        each = self.loss.call(targets, outputs)
        return tf.reduce_mean(tf.reshape(each, (self.count, tf.shape(outputs)[1], -1)), axis=-1)

    def measure(self, split: Any) -> np.ndarray:
        """The mean loss of each model on a split `[members]`."""
        sums, total = np.zeros(self.count), 0.0
        for x, y, weights in split.batches(1024):
            outputs = self.forward(tf.convert_to_tensor(next(leaves(x))[1]))
            labels = self._labels(next(leaves(y))[1])
            each = self.losses(tf.broadcast_to(labels[None], [self.count, *labels.shape]), outputs).numpy()
            shares = 1.0 if weights is None else np.asarray(next(leaves(weights))[1], "float64")
            sums, total = sums + (each * shares).sum(axis=1), total + each.shape[1]
        return sums / total + np.asarray(self.penalty())  # type: ignore[no-any-return]

    def _labels(self, y: np.ndarray) -> Any:
        if isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy) and y.ndim == 2:
            y = y[:, 0]
        if isinstance(self.loss, keras.losses.BinaryCrossentropy | keras.losses.MeanSquaredError) and y.ndim == 1:
            y = y[:, None]
        floats = not isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy)
        return tf.constant(y.astype("float32") if floats else y)


def _optimizer(training: Train, steps: int) -> Any:
    rate: Any = base_rate(training.optimizer, training.learning_rate)
    decay = make_decay(training.decay)
    if needs_steps(decay):
        rate = DecaySchedule(float(rate), decay, steps, training.epochs)
    return make_optimizer(training.optimizer, rate)
