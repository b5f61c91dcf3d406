"""Self-distillation: a model teaches its own earlier layers."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.distill.exits import ExitDistiller
from kdfuse.fitting.compiled import auto_metrics
from kdfuse.fitting.stopping import Stopping, higher_is_better
from kdfuse.graph.copy import copy_model
from kdfuse.graph.heads import detect_head
from kdfuse.graph.taps import shapes
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Fitted, Train


@settings
class SelfDistill(Technique):
    """Train a model with classifiers on layers along its depth, which learn from the labels and from the deepest one.

    Each exit is average pooling (of images to at most 4 x 4 cells), a dense bottleneck as wide as the features before the
    model's own head, and a head. The loss is `CE(deepest) + (1 - alpha) * sum CE(exit) + alpha * T^2 * sum KL(deepest || exit)
    + feature_weight * sum |features(exit) - deepest features|^2`, means over the batch. The exits are gone from the model that
    comes back: it has the given architecture. Their accuracy is in the history, as `validation/<exit>/accuracy`, and in the
    figures. The `l2` of the training is on the model's weights, not on the exits'.

    Zhang et al.: Be Your Own Teacher, 2019 (arXiv 1905.08094). Its exits stand at the ends of the blocks of a ResNet, with
    convolutional bottlenecks; its code sums the squared distance over a batch of 128 with a weight of 1e-6, about 1e-4 here.

    Attributes:
        exits: layers that get an exit, by the names that `kdfuse.graph.taps.Taps` takes.
        temperature: T, above 0.
        alpha: from 0, the exits learn from labels alone, to 1, from the deepest alone.
        feature_weight: from 0.
        training: how to fit.
        control: also trains the same model under the same `training` without exits, and reports the difference.
    """

    exits: tuple[str, ...]
    temperature: float = 3.0
    alpha: float = 0.1
    feature_weight: float = 1e-4
    training: Train = Train()
    control: bool = False

    keeps_structure = True

    def __post_init__(self) -> None:
        names = self.exits if isinstance(self.exits, tuple) else ()
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise TypeError(
                f"`exits`: expected a list of different names of layers, such as ['block1', 'block2']. Received: {self.exits!r}."
            )
        for argument, value, low, high in (
            ("temperature", self.temperature, math.ulp(0.0), math.inf),
            ("alpha", self.alpha, 0.0, 1.0),
            ("feature_weight", self.feature_weight, 0.0, math.inf),
        ):
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not low <= value <= high:
                wanted = {"temperature": "above 0", "alpha": "from 0 to 1"}.get(argument, "from 0")
                raise ValueError(f"`{argument}`: expected a number {wanted}. Received: {argument}={value!r}.")
        if not isinstance(self.training, Train):
            raise TypeError(f"`training`: expected kdfuse.Train(...). Received: {self.training!r}.")
        if not isinstance(self.control, bool):
            raise ValueError(f"`control`: expected True or False. Received: control={self.control!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        self.training.check(model, data)
        example = data.example(2)
        copy = copy_model(model, example)
        head = self._head(copy, data)
        output = copy(keras.tree.map_structure(keras.ops.convert_to_tensor, example), training=False)
        if keras.tree.is_nested(output) or len(output.shape) != 2:
            what = "several outputs" if keras.tree.is_nested(output) else f"outputs of shape {tuple(output.shape)}"
            raise ValueError(f"`model`: expected one output [batch, classes], so that exits can have the same. Received: {what}.")
        if head == "regression":
            raise ValueError(
                "`model`: expected a head of classes, since exits learn its probabilities. Received: a regression. Use kdfuse.Train."
            )
        for name in (*self.exits, None):
            where = "`exits`" if name is not None else "`model`"
            try:
                (shape,) = shapes(copy, [name], example)
            except ValueError as error:
                wanted = "" if name is not None else "expected one tensor of features before its head, which the exits learn. "
                raise ValueError(f"{where}: {wanted}{error}") from error
            if shape[0] != 2:
                raise ValueError(
                    f"{where}: expected features with a row for each row of the input. Received: {shape[0]} rows for 2, as of members that "
                    "share a batch. Distil before kdfuse.BatchEnsemble."
                )
            if len(shape) < 2:
                raise ValueError(
                    f"{where}: expected features [batch, ..., channels]. Received: {name!r} gives {shape}. Name another layer."
                )

    def apply(self, model: keras.Model, data: Data) -> Result:
        student = self.private(model, data)
        fitted = self.fit(student, data)
        result = Result(self.public(student, data), fitted.history, notes=fitted.notes)
        result.heads = {"model": self.training.head, "control": self.training.head}
        place = _kept(fitted.history, self.training.stopping)
        for name in self.exits:
            curve = f"validation/{name}/accuracy"
            if curve in fitted.history:
                result.metrics[curve] = fitted.history[curve][place]
        if self.control:
            result.baselines["control"], _ = self.training(model, data, name="control")
        return result

    def private(self, model: keras.Model, data: Data) -> keras.Model:
        """A copy of `model` that `fit` may train, compiled as `model` is."""
        return self.training.private(model, data)

    def fit(self, model: keras.Model, data: Data, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Fitted:
        """Train `model` in place, with exits that are left behind.

        Args:
            model: a copy that belongs to the caller, from `private`.
            data: as in `Train.fit`.
            callbacks: Keras callbacks.

        Returns:
            The curves, those of the exits among them, and notes.
        """
        head, example = self._head(model, data), data.example(2)
        x, y, weights = data.train.head(2)

        def engine(student: keras.Model) -> ExitDistiller:
            output = student(keras.tree.map_structure(keras.ops.convert_to_tensor, x), training=False)
            metrics = [auto_metrics(head, data.task, y, output)[0] for _ in self.exits]
            for place, metric in enumerate(metrics):
                metric.name = f"exit_{place}_accuracy"
            return ExitDistiller(
                student,
                self.exits,
                head=head,
                example=example,
                metrics=metrics,
                weighted=weights is not None,
                temperature=self.temperature,
                alpha=self.alpha,
                feature_weight=self.feature_weight,
                seed=self.training.seed,
            )

        return self.training.fit(model, data, callbacks, engine=engine)

    def public(self, model: keras.Model, data: Data) -> keras.Model:
        """The trained copy as a plain model to give away."""
        return self.training.public(model, data)

    def _head(self, model: keras.Model, data: Data) -> Any:
        return detect_head(model, data.task, data.example(8), self.training.head)


def _kept(history: dict[str, list[float]], stopping: Stopping | None) -> int:
    """The epoch whose weights the model has."""
    if stopping is None or not stopping.restore_best or stopping.monitor not in history:
        return -1
    sign, place, best = (1.0 if higher_is_better(stopping.monitor) else -1.0), -1, -math.inf
    for epoch, value in enumerate(history[stopping.monitor]):
        if sign * value > best + stopping.min_delta:
            place, best = epoch, sign * value
    return place
