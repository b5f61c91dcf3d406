"""EarlyExits: one network that stops where it is sure already."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.calibrate import need_validation, temperature
from kdfuse.ensemble.calibration import before_and_after, heated
from kdfuse.ensemble.grown import Grown
from kdfuse.ensemble.joined import inputs_for
from kdfuse.ensemble.predictions import Predicted, Stacked
from kdfuse.ensemble.serial.cascade import TARGETS, accuracy_of_last, check_goal
from kdfuse.ensemble.serial.confidence import MEASURES
from kdfuse.ensemble.serial.escalate import Escalate
from kdfuse.ensemble.serial.exits import Segments, cut, new_inputs, with_exits
from kdfuse.ensemble.serial.stages import budget_of, costs_of, told, watch
from kdfuse.ensemble.serial.thresholds import choose_thresholds
from kdfuse.ensemble.temperature import Temperature
from kdfuse.fitting.checks import class_weights
from kdfuse.fitting.compiled import auto_loss, auto_metrics, compile_settings, fresh
from kdfuse.graph.copy import copy_model, is_functional, is_sequential
from kdfuse.graph.heads import detect_head
from kdfuse.graph.taps import shapes
from kdfuse.measure.predict import one_pass
from kdfuse.settings import choose, settings
from kdfuse.splits import ArraySplit
from kdfuse.technique import Result
from kdfuse.train import Train


@settings
class EarlyExits(Grown):
    """Put classifiers on layers along a network's depth, train them with it, and let each row leave at the first that is sure of it.

    What comes back is one model; the layers behind an exit do not run on the rows that have left, also inside a saved model. An exit is
    a mean over all places and one Dense layer. Everything that lies behind an exit must go through its layer. Teerapittayanon et al.,
    2016, "BranchyNet" (arXiv 1709.01686).

    Attributes:
        at: names of the layers that get an exit, from the input to the output.
        weights: of the exits in the loss, one for each; the network's own output has 1. None for 0.5 each.
        training: how network and exits are trained, from the weights given; every exit has the loss of the output.
        target, tolerance, cost, confidence, calibrate: as in `Cascade`; the whole network is the last model.
    """

    at: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    training: Train = Train()
    target: str = "accuracy"
    tolerance: float = 0.0
    cost: float | None = None
    confidence: str = "max_probability"
    calibrate: bool = True

    row = "exits"

    def __post_init__(self) -> None:
        if not self.at or not all(isinstance(name, str) for name in self.at) or len(set(self.at)) < len(self.at):
            raise ValueError(f"`at`: expected names of layers, such as ['conv_2']. Received: {self.at!r}.")
        good = self.weights is None or (len(self.weights) == len(self.at) and all(0 < one < float("inf") for one in self.weights))
        if not good:
            raise ValueError(f"`weights`: expected a number above 0 for each of {len(self.at)} exits. Received: {self.weights!r}.")
        if not isinstance(self.training, Train):
            raise TypeError(f"`training`: expected kdfuse.Train(...), for every exit learns from the labels. Received: {self.training!r}.")
        choose("target", self.target, TARGETS)
        choose("confidence", self.confidence, MEASURES)
        check_goal(self.target, self.tolerance, self.cost)
        if not isinstance(self.calibrate, bool):
            raise ValueError(f"`calibrate`: expected True or False. Received: {self.calibrate!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        if not (is_functional(model) or is_sequential(model)):
            raise ValueError(f"`model` of EarlyExits: expected a Functional or Sequential model. Received: {type(model).__name__}.")
        need_validation("EarlyExits", data, "thresholds are chosen on it")
        if not all(isinstance(split, ArraySplit) for split in (data.train, data.validation)):
            raise ValueError(
                "`data` of EarlyExits: expected arrays to train and validate on, for every exit has the labels. Received: a stream."
            )
        if data.task not in ("classification", "binary"):
            raise ValueError(f"`data` of EarlyExits: expected one output of classes. Received: the task {data.task!r}.")
        self.training.check(model, data)
        copy, head = copy_model(model, data.example(2)), detect_head(model, data.task, data.example(4), self.training.head)
        if head == "regression" or len(copy.outputs[0].shape) != 2:
            received = f"the head {head}, of shape {copy.outputs[0].shape}"
            raise ValueError(f"`model` of EarlyExits: expected an output of classes (rows, classes). Received: {received}.")
        cut(copy, self.at, head)
        for name, shape in zip(self.at, shapes(copy, self.at, data.example(2)), strict=True):
            if shape[0] != 2:
                raise ValueError(
                    f"`at`: expected layers with a row for each row of the input. Received: {name!r}, which gives {shape[0]} rows for 2, "
                    "as members that share a batch do. Add exits before kdfuse.BatchEnsemble."
                )
        if self.cost is not None:
            parts = cut(with_exits(copy, self.at, head), self.at, head, exits=True)
            budget_of(self.cost, costs_of(parts.stages(), whole=parts.whole))

    def apply(self, model: keras.Model, data: Data) -> Result:
        head = detect_head(model, data.task, data.example(4), self.training.head)
        shares = [*(self.weights or [0.5] * len(self.at)), 1.0]
        several = _labels_for_each(data, len(shares), class_weights(self.training.class_weight, data))
        grown = with_exits(copy_model(model, data.example(2)), self.at, head)
        training = dataclasses.replace(self.training, loss="auto", class_weight=None)
        grown.compile(optimizer="sgd", loss_weights=shares, jit_compile=False, **self._objective(model, grown, several, head))
        student = training.private(grown, several)
        fitted = training.fit(student, several)
        parts = cut(training.public(student, several), self.at, head, exits=True)
        found = {split: self._predicted(parts, data, split) for split in ("validation", "test") if data.split(split) is not None}
        heats = None
        if self.calibrate:
            heats = [temperature(found["validation"], place) for place in range(len(shares))]
        plain = {split: heated(part, heats or [1.0] * len(shares)) for split, part in found.items()}
        costs = costs_of(parts.stages(), whole=parts.whole)
        watched = {split: watch([part], self.confidence, costs.each) for split, part in plain.items()}
        goal = None if self.target == "cost" else accuracy_of_last(watched["validation"]) - self.tolerance
        thresholds = choose_thresholds(watched["validation"], goal, budget_of(self.cost, costs))
        made = _leaving(parts, thresholds, self.confidence, heats, plain["validation"].head, data)
        result = Result(made, fitted.history, notes=list(fitted.notes), baselines={"whole": parts.whole, "before": model})
        result.heads = dict.fromkeys(("whole", "before"), self.training.head)
        temperatures = None if heats is None else [[one] for one in heats]
        told(result, watched, thresholds, temperatures, [*self.at, "output"], costs)
        if temperatures is not None:
            split = "test" if "test" in found else "validation"
            leaves = watched[split].leaves(thresholds)
            result.tables["calibration"] = before_and_after([*self.at, "output"], [found[split]], temperatures, split, leaves, "exits")
        return result

    def _objective(self, model: keras.Model, grown: keras.Model, several: Data, head: str) -> dict[str, Any]:
        """The loss of the output for every exit: that of the training, of the model as it was compiled, or the one that fits its head."""
        count, own = len(grown.outputs), compile_settings(model).get("loss")
        _, labels, weights = several.train.head(2)
        given = ([head] * count, list(several.task), list(labels), list(grown.outputs))
        loss = own if isinstance(self.training.loss, str) and self.training.loss == "auto" else self.training.loss
        losses = auto_loss(*given) if loss is None else [fresh(loss) for _ in range(count)]
        return {"loss": losses, "metrics" if weights is None else "weighted_metrics": auto_metrics(*given)}

    def _predicted(self, parts: Segments, data: Data, split: str) -> Predicted:
        """The logits of all exits on a split."""
        rows = data.split(split)
        assert rows is not None
        logits = parts.logits()
        done = one_pass(keras.Model(logits.input, Stacked()(logits.outputs)), rows)
        values = np.moveaxis(done.outputs, 1, 0)
        kind = "softmax" if values.shape[-1] > 1 else "sigmoid"
        return Predicted("", values, done.targets, done.weights, str(data.task), kind)


def _leaving(
    parts: Segments, thresholds: Sequence[float], measure: str, heats: Sequence[float] | None, head: str, data: Data
) -> keras.Model:
    """The cascade of the segments: each asks the rest of the network for the rows that it is unsure of."""
    count = len(parts.trunk)
    heat = heats or [1.0] * count
    asked: keras.Model | None = None
    for place in reversed(range(count)):
        given = inputs_for([parts.whole], data) if place == 0 else new_inputs(parts.trunk[place])
        features = parts.trunk[place](given)
        answers = Temperature(heat[place], head, name=f"sure_{place + 1}")(parts.answer(place, features))
        if asked is not None:
            answers = Escalate(asked, thresholds[place], measure, [head], name=f"ask_{place + 2}")((features, answers))
        asked = keras.Model(given, answers, name="early_exits" if place == 0 else f"rest_{place + 1}")
    assert asked is not None
    return asked


def _labels_for_each(data: Data, count: int, shares: dict[int, float] | None) -> Data:
    """The same rows with the labels once for each exit; weights of classes become those of rows."""

    def repeated(split: Any, weights: Any) -> Any:
        given: tuple[Any, ...] = (split.x, (split.y,) * count)
        return given if weights is None else (*given, (weights,) * count)

    train, validation = data.train, data.validation
    assert isinstance(train, ArraySplit) and isinstance(validation, ArraySplit)
    weights = train.sample_weight
    if shares is not None:
        labels = np.asarray(train.y)
        labels = labels.argmax(-1) if labels.ndim > 1 and labels.shape[-1] > 1 else labels.reshape(-1).astype(int)
        of_class = np.array([shares.get(label, 1.0) for label in range(labels.max() + 1)], "float32")[labels]
        weights = of_class if weights is None else np.asarray(weights).reshape(-1) * of_class
    rows = repeated(train, weights), repeated(validation, validation.sample_weight)
    return Data(*rows, name=data.name, task=(data.task,) * count)
