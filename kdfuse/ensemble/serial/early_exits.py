"""EarlyExits: one network that stops where it is sure already."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.calibrate import need_validation, temperature
from kdfuse.ensemble.grown import Grown, need_arrays
from kdfuse.ensemble.parallel.training import check_training
from kdfuse.ensemble.predictions import Predicted, Stacked
from kdfuse.ensemble.serial.cascade import accuracy_of_last, check_goal, heated
from kdfuse.ensemble.serial.confidence import MEASURES
from kdfuse.ensemble.serial.escalate import Escalate
from kdfuse.ensemble.serial.exits import Segments, cut, with_exits
from kdfuse.ensemble.serial.stages import costs_of, told, watch
from kdfuse.ensemble.serial.thresholds import choose_thresholds
from kdfuse.ensemble.temperature import Temperature
from kdfuse.fitting.compiled import auto_loss
from kdfuse.graph.copy import copy_model, is_functional, is_sequential
from kdfuse.graph.heads import detect_head
from kdfuse.measure.predict import one_pass
from kdfuse.settings import choose, settings
from kdfuse.splits import ArraySplit
from kdfuse.technique import Result
from kdfuse.train import Train, Trainer

TARGETS = ("accuracy", "cost")


@settings
class EarlyExits(Grown):
    """Put classifiers on layers along a network's depth, train them with it, and let each row leave at the first that is sure of it.

    What comes back is one model; the layers behind an exit do not run on the rows that have left, also inside a saved model. An exit is
    a mean over all places and one Dense layer. Everything that lies behind an exit must go through its layer. Teerapittayanon et al.,
    2016, "BranchyNet" (arXiv 1709.01686).

    Attributes:
        at: names of the layers that get an exit, from the input to the output.
        weights: of the exits in the loss, one for each; the network's own output has 1. None for 0.5 each.
        training: how network and exits are trained, from the weights given.
        target, tolerance, cost, confidence, calibrate: as in `Cascade`; costs are shares of the whole network's MACs.
    """

    at: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    training: Trainer = Train()
    target: str = "accuracy"
    tolerance: float = 0.0
    cost: float | None = None
    confidence: str = "max_probability"
    calibrate: bool = True

    row = "exits"

    def __post_init__(self) -> None:
        if not self.at or not all(isinstance(name, str) for name in self.at) or len(set(self.at)) < len(self.at):
            raise ValueError(f"`at`: expected names of layers, such as ['conv_2']. Received: {self.at!r}.")
        good = self.weights is None or (len(self.weights) == len(self.at) and all(one > 0 for one in self.weights))
        if not good:
            raise ValueError(f"`weights`: expected a number above 0 for each of {len(self.at)} exits. Received: {self.weights!r}.")
        check_training(self.training)
        choose("target", self.target, TARGETS)
        choose("confidence", self.confidence, MEASURES)
        check_goal(self.target, self.tolerance, self.cost)
        if not isinstance(self.calibrate, bool):
            raise ValueError(f"`calibrate`: expected True or False. Received: {self.calibrate!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        if not (is_functional(model) or is_sequential(model)):
            raise ValueError(f"`model` of EarlyExits: expected a Functional or Sequential model. Received: {type(model).__name__}.")
        need_validation("EarlyExits", data, "thresholds are chosen on it")
        need_arrays("EarlyExits", data, "every exit has the labels")
        if data.task not in ("classification", "binary"):
            raise ValueError(f"`data` of EarlyExits: expected one output of classes. Received: the task {data.task!r}.")
        cut(copy_model(model, data.example(2)), self.at)
        self.training.check(model, data)  # type: ignore[attr-defined]

    def apply(self, model: keras.Model, data: Data) -> Result:
        head = detect_head(model, data.task, data.example(4))
        shares = [*(self.weights or [0.5] * len(self.at)), 1.0]
        grown, several = with_exits(copy_model(model, data.example(2)), self.at), _labels_for_each(data, len(shares))
        student = self.training.private(grown, several)
        labels = several.train.head(2)[1]
        losses = auto_loss([head] * len(shares), list(several.task), list(labels), list(grown.outputs))
        student.compile(optimizer="sgd", loss=losses, loss_weights=shares)
        fitted = self.training.fit(student, several)
        parts = cut(self.training.public(student, several), self.at, exits=True)
        found = {split: self._predicted(parts, data, split, head) for split in ("validation", "test") if data.split(split) is not None}
        heats = None
        if self.calibrate:
            heats = [temperature(found["validation"], place) for place in range(len(shares))]
        plain = {split: heated(part, heats or [1.0] * len(shares)) for split, part in found.items()}
        costs = costs_of(parts.stages())
        watched = {split: watch([part], self.confidence, costs) for split, part in plain.items()}
        goal = None if self.target == "cost" else accuracy_of_last(watched["validation"]) - self.tolerance
        budget = None if self.cost is None else self.cost * sum(costs)
        thresholds = choose_thresholds(watched["validation"], goal, budget)
        made = _leaving(parts, thresholds, self.confidence, heats, plain["validation"].head)
        result = Result(made, fitted.history, notes=list(fitted.notes), baselines={"whole": parts.whole, "before": model})
        told(result, watched, thresholds, None if heats is None else [[one] for one in heats], [*self.at, "output"])
        result.metrics["cascade/macs_share"] = result.metrics["cost/macs"] / sum(costs)
        return result

    def _predicted(self, parts: Segments, data: Data, split: str, head: str) -> Predicted:
        """The logits of all exits on a split."""
        rows = data.split(split)
        assert rows is not None
        logits = parts.logits(head)
        done = one_pass(keras.Model(logits.inputs, Stacked()(logits.outputs)), rows)
        values = np.moveaxis(done.outputs, 1, 0)
        kind = "softmax" if values.shape[-1] > 1 else "sigmoid"
        return Predicted("", values, done.targets, done.weights, str(data.task), kind)


def _leaving(parts: Segments, thresholds: Sequence[float], measure: str, heats: Sequence[float] | None, head: str) -> keras.Model:
    """The cascade of the segments: each asks the rest of the network for the rows that it is unsure of."""
    count = len(parts.trunk)
    heat = heats or [1.0] * count

    def answered(place: int, features: Any) -> Any:
        return Temperature(heat[place], head, name=f"sure_{place + 1}")(parts.answer(place, features))

    asked: keras.Model | None = None
    for place in reversed(range(count)):
        given = keras.tree.map_structure(lambda tensor: keras.Input(tensor.shape[1:], dtype=tensor.dtype), parts.trunk[place].input)
        features = parts.trunk[place](given)
        answers = answered(place, features)
        if asked is not None:
            answers = Escalate(asked, thresholds[place], measure, [head], name=f"ask_{place + 2}")((features, answers))
        asked = keras.Model(given, answers, name="early_exits" if place == 0 else f"rest_{place + 1}")
    assert asked is not None
    return asked


def _labels_for_each(data: Data, count: int) -> Data:
    """The same rows with the labels once for each exit."""

    def repeated(split: Any) -> Any:
        if split is None:
            return None
        if not isinstance(split, ArraySplit):
            raise ValueError("`data` of EarlyExits: expected arrays in all splits, for every exit has the labels. Received: a stream.")
        given: tuple[Any, ...] = (split.x, (split.y,) * count)
        return given if split.sample_weight is None else (*given, (split.sample_weight,) * count)

    return Data(repeated(data.train), repeated(data.validation), name=data.name, task=(data.task,) * count)
