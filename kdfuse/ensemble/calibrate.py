"""Calibrate: temperature scaling, so that a model is as sure as it is right."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from scipy import optimize, special

from kdfuse.data import Data
from kdfuse.ensemble.calibration import before_and_after
from kdfuse.ensemble.joined import inputs_for, outputs_of
from kdfuse.ensemble.members import Member, flat_heads, kept_names, take
from kdfuse.ensemble.predictions import Predicted, predictions
from kdfuse.ensemble.temperature import Temperature
from kdfuse.measure.calibration import reliability_of
from kdfuse.measure.measure import Measured
from kdfuse.measure.quality import flat_classes
from kdfuse.report import Report
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique

LOWEST, HIGHEST = 1e-2, 1e2


@settings
class Calibrate(Technique):
    """Divide a model's logits by the temperature that makes the log loss on the validation split least.

    Decisions stay; the model gives probabilities. For several outputs each has a temperature of its own, which the table `calibration`
    tells, with log loss and calibration error before and after. Of one output the table `reliability` tells how often each confidence is
    right. Guo et al., 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599).
    """

    def check(self, model: keras.Model, data: Data) -> None:
        need_validation("Calibrate", data, "the temperature is fitted on it")
        for head in flat_heads(take([model], data)[0]):
            if head == "regression":
                raise ValueError("`model` of Calibrate: expected a classifier. Received: a model with the head regression.")

    def apply(self, model: keras.Model, data: Data) -> Result:
        member = take([model], data)[0]
        assert data.validation is not None
        parts = predictions([member], data, data.validation, "logits")
        found = [temperature(part) for part in parts]
        made = calibrated(member, data, found, name=model.name)
        figures = {"calibrate/temperature": float(np.mean(found))}
        tables = {"calibration": before_and_after([model.name], parts, [found], "validation")}
        return Result(made, metrics=figures, tables=tables, baselines={"before": model})

    def compare(self, report: Report, measured: Measured, beside: Mapping[str, Measured]) -> None:
        curve = reliability_of(measured)
        if curve:
            report.tables["reliability"] = curve


def temperature(part: Predicted, place: int = 0) -> float:
    """The temperature of least log loss, in [0.01, 100].

    Args:
        part: predictions as logits.
        place: of the member.
    """
    logits = part.values[place].astype("float64")
    if part.head == "sigmoid":
        logits, truth = logits.reshape(-1), np.asarray(part.targets, dtype="float64").reshape(-1)
        logits, labels = np.stack([np.zeros_like(logits), logits], axis=-1), (truth > 0.5).astype(int)
        weights = None if part.weights is None else np.repeat(np.reshape(part.weights, -1), len(labels) // np.size(part.weights))
    else:
        chances, labels, weights = flat_classes(np.exp(special.log_softmax(logits, axis=-1)), np.asarray(part.targets), part.weights)
        logits = np.log(np.maximum(chances, 1e-300))
    shares = np.ones(len(labels)) if weights is None else weights

    def loss(log_temperature: float) -> float:
        scaled = special.log_softmax(logits / np.exp(log_temperature), axis=-1)
        return float(-(shares * scaled[np.arange(len(labels)), labels]).sum() / shares.sum())

    found = optimize.minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def calibrated(member: Member, data: Data, temperatures: Sequence[float] | None, name: str) -> keras.Model:
    """A model that gives the member's probabilities, at the temperature of each output; None for 1.

    Args:
        member: its model goes into the graph.
        data: for the inputs.
        temperatures: one for each output.
        name: of the model.
    """
    inputs = inputs_for([member.model], data)
    heads = flat_heads(member)
    columns = outputs_of([member], inputs, "logits" if temperatures is not None else "probabilities")
    flat = [column[0] for column in columns]
    if temperatures is not None:
        every = zip(flat, temperatures, heads, kept_names(member, [None] * len(flat)), strict=True)
        flat = [Temperature(one, head, name=name)(tensor) for tensor, one, head, name in every]
    nested = keras.tree.is_nested(member.outputs)
    return keras.Model(inputs, keras.tree.pack_sequence_as(member.outputs, flat) if nested else flat[0], name=name)


def need_validation(owner: str, data: Data, why: str) -> None:
    """Raise where there is no validation split."""
    if data.validation is None:
        raise ValueError(
            f"`data` of {owner}: expected a validation split, for {why}. Received: none. Give kdfuse.Data(..., validation=0.1)."
        )
