"""Cascade: a small model answers, and asks a larger one only where it is unsure."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.calibrate import calibrated, need_validation, temperature
from kdfuse.ensemble.calibration import before_and_after, heated
from kdfuse.ensemble.ensemble import Ensemble, beside
from kdfuse.ensemble.joined import inputs_for
from kdfuse.ensemble.members import Member, flat_heads, named, take
from kdfuse.ensemble.predictions import predictions
from kdfuse.ensemble.serial.confidence import MEASURES
from kdfuse.ensemble.serial.escalate import Escalate
from kdfuse.ensemble.serial.stages import budget_of, costs_of, told, watch
from kdfuse.ensemble.serial.thresholds import Stages, choose_thresholds
from kdfuse.settings import choose, settings
from kdfuse.technique import Result

TARGETS = ("accuracy", "cost")


@settings
class Cascade(Ensemble):
    """Join models from the cheapest to the dearest: each row goes on to the next only where those before were unsure of it.

    The models that a row does not need do not run on it, also inside a saved model. The report's `cost/macs` is the mean over the rows of
    the test split; of a cascade among the models all of its own models count. Viola and Jones, 2001; Wang et al., 2020, "Wisdom of
    Committees" (arXiv 2012.01988).

    Attributes:
        target: what the thresholds are chosen for on the validation split: `"accuracy"`, the least mean cost at the last model's accuracy;
            `"cost"`, the most accuracy at a mean cost of at most `cost`.
        tolerance: how much accuracy may be lost against the last model, in [0, 1), for the target `"accuracy"`.
        cost: the mean cost, as a share of the last model's MACs, in (0, 1]; for the target `"cost"`.
        thresholds: confidences from which a row leaves, one for each model but the last; None: chosen. Given, nothing else decides.
        confidence: `"max_probability"`, `"margin"` (to the second) or `"entropy"` (one minus it, of a uniform one).
        calibrate: whether each model's confidence is calibrated first, by a temperature fitted on the validation split. The answers are
            calibrated too. The table `calibration` has log loss and calibration error before and after, of each model and of the
            cascade with the same exits.
    """

    target: str = "accuracy"
    tolerance: float = 0.0
    cost: float | None = None
    thresholds: tuple[float, ...] | None = None
    confidence: str = "max_probability"
    calibrate: bool = True

    def __post_init__(self) -> None:
        choose("target", self.target, TARGETS)
        choose("confidence", self.confidence, MEASURES)
        check_goal(self.target, self.tolerance, self.cost)
        if not isinstance(self.calibrate, bool):
            raise ValueError(f"`calibrate`: expected True or False. Received: {self.calibrate!r}.")
        if self.thresholds is not None:
            if not self.thresholds or not all(_is_number(one) for one in self.thresholds):
                raise ValueError(f"`thresholds`: expected a number for each model but the last. Received: {self.thresholds!r}.")
            if self.target != "accuracy" or self.tolerance:
                raise ValueError(
                    f"`thresholds`: expected None where they are chosen, for target={self.target!r}, tolerance={self.tolerance!r}. "
                    f"Received: {self.thresholds!r}. Give one or the other."
                )

    def check(self, model: Sequence[keras.Model], data: Data) -> None:
        super().check(model, data)
        if self.thresholds is None or self.calibrate:
            need_validation("Cascade", data, "thresholds and temperatures are chosen on it")
        check_rows("Cascade", take(model[:1], data)[0])
        if self.thresholds is not None and len(self.thresholds) != len(model) - 1:
            raise ValueError(f"`thresholds`: expected {len(model) - 1}, one for each model but the last. Received: {len(self.thresholds)}.")
        if self.cost is not None:
            budget_of(self.cost, costs_of(model, data))

    def apply(self, model: Sequence[keras.Model], data: Data) -> Result:
        members = take(model, data)
        given = {split: rows for split in ("validation", "test") if (rows := data.split(split)) is not None}
        said = {split: predictions(members, data, rows, "logits" if self.calibrate else "probabilities") for split, rows in given.items()}
        temperatures: list[list[float]] | None = None
        chances = said
        if self.calibrate:
            temperatures = [[temperature(part, place) for part in said["validation"]] for place in range(len(members))]
            by_output = list(zip(*temperatures, strict=True))
            chances = {split: [heated(part, one) for part, one in zip(parts, by_output, strict=True)] for split, parts in said.items()}
        costs = costs_of([member.model for member in members], data)
        watched = {split: watch(parts, self.confidence, costs.each) for split, parts in chances.items()}
        goal = None if self.target == "cost" else accuracy_of_last(watched.get("validation")) - self.tolerance
        found = self.thresholds
        if found is None:
            found = choose_thresholds(watched["validation"], goal, budget_of(self.cost, costs))
        parts = [
            calibrated(member, data, None if temperatures is None else temperatures[place], member.model.name)
            for place, member in enumerate(members)
        ]
        made = escalating(parts, members[0], found, self.confidence, data)
        result = Result(made, baselines=beside(model))
        names = [member.model.name for member in members]
        told(result, watched, found, temperatures, names, costs)
        if temperatures is not None:
            split = "test" if "test" in said else "validation"
            leaves = watched[split].leaves(found)
            result.tables["calibration"] = before_and_after(names, said[split], temperatures, split, leaves, "cascade")
        if costs.each != sorted(costs.each):
            result.notes.append("The models do not get dearer from one to the next: a cascade of them saves little.")
        return result


def escalating(parts: Sequence[keras.Model], like: Member, thresholds: Sequence[float], measure: str, data: Data) -> keras.Model:
    """One model of several: each asks the next, from the last to the first.

    Args:
        parts: models that give probabilities.
        like: a member, for the structure and heads of the outputs.
        thresholds: one for each part but the last.
        measure: of confidence.
        data: for the inputs.
    """
    heads, asked = flat_heads(like), parts[-1]
    for place in reversed(range(len(parts) - 1)):
        inputs = inputs_for(parts, data)
        ask = Escalate(asked, thresholds[place], measure, heads, name=f"ask_{place + 2}")
        answers = named(ask((inputs, parts[place](inputs))), like)
        asked = keras.Model(inputs, answers, name="cascade" if place == 0 else f"cascade_from_{place + 1}")
    return asked


def accuracy_of_last(stages: Stages | None) -> float:
    """The accuracy of the last model alone."""
    return float("nan") if stages is None else float(np.average(stages.right[-1], weights=stages.weights))


def check_goal(target: str, tolerance: Any, cost: Any) -> None:
    """Raise unless what is wanted can be."""
    if not _is_number(tolerance) or not 0 <= tolerance < 1:
        raise ValueError(f"`tolerance`: expected a share in [0, 1). Received: {tolerance!r}.")
    if tolerance and target == "cost":
        raise ValueError("`tolerance`: expected 0 with target='cost', which asks for the most accuracy. Received: " + repr(tolerance) + ".")
    if (cost is None) != (target == "accuracy"):
        raise ValueError(f"`cost`: expected a number with target='cost', and None with target='accuracy'. Received: {cost!r}.")
    if cost is not None and not (_is_number(cost) and 0 < cost <= 1):
        raise ValueError(f"`cost`: expected a share of the last model's MACs, in (0, 1]. Received: {cost!r}.")


def check_rows(owner: str, member: Member) -> None:
    """Raise unless a member gives classes, one prediction a row."""
    for head, leaf in zip(flat_heads(member), keras.tree.flatten(member.outputs), strict=True):
        if head == "regression":
            raise ValueError(f"`model` of {owner}: expected classifiers, for confidence is that in a class. Received: the head regression.")
        if len(leaf.shape) != 2:
            raise ValueError(
                f"`model` of {owner}: expected outputs of shape (rows, classes), for a row goes on as a whole. Received: {leaf.shape}."
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
