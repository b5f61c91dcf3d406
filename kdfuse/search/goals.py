"""Goals: what a search wants more of, what it wants less of, and what a model must keep to."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras

from kdfuse.data import Data
from kdfuse.measure.measure import MEANS
from kdfuse.report import figure, format_figure, objective

STRUCTURAL = ("size/parameters", "cost/macs")
"""Limits that are known before anything is trained."""
REGRESSION = ("mae", "rmse", "r2")
"""Figures of a regression; the other ones of quality are of classes."""


class Goals(NamedTuple):
    """Objectives and limits under full names.

    Attributes:
        objectives: the figures, the first one choosing the winner.
        signs: 1 where more is better, -1 where less is.
        limits: the most of a figure of which less is better, the least of one of which more is better.
    """

    objectives: tuple[str, ...]
    signs: tuple[int, ...]
    limits: dict[str, float]

    def values(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The objectives of a model, turned so that more is better.

        Raises:
            KeyError: one was not measured.
        """
        missing = [name for name in (*self.objectives, *self.limits) if name not in metrics]
        if missing:
            raise KeyError(f"{missing[0]!r} was not measured. There is: {', '.join(sorted(metrics))}.")
        found = [sign * float(metrics[name]) for name, sign in zip(self.objectives, self.signs, strict=True)]
        return tuple(-math.inf if math.isnan(value) else value for value in found)

    def breaks(self, metrics: Mapping[str, float]) -> str | None:
        """The first limit that a model does not keep; None where it keeps all that were measured."""
        for name, limit in self.limits.items():
            known, value = figure(name), metrics.get(name)
            if known is not None and value is not None and (value > limit if known.better == "lower" else value < limit):
                return name
        return None

    def broken(self, metrics: Mapping[str, float]) -> str | None:
        """The same as the end of a sentence."""
        name = self.breaks(metrics)
        known = figure(name) if name is not None else None
        if name is None or known is None:
            return None
        side = "most" if known.better == "lower" else "least"
        return f"{format_figure(name, metrics[name])} {known.title}, and at {side} {format_figure(name, self.limits[name])} were asked for."

    @property
    def timed(self) -> bool:
        """Whether latency is among them."""
        return any(name.startswith("latency/") for name in (*self.objectives, *self.limits))


def make_goals(maximize: Any, minimize: Any, limits: Mapping[str, float] | None, data: Data) -> Goals:
    """Goals from the names a user gives, bare or in full.

    Args:
        maximize: a name, several, or None.
        minimize: likewise. Where both are None: `accuracy`, or `r2` for regression.
        limits: names to limits, or None.
        data: tells the task and whether there is a validation split.

    Raises:
        ValueError: an unknown name, one of the test split, one twice, one whose direction contradicts its meaning, no validation split.
        TypeError: names that are no texts, limits that are no dict, a limit that is no number.
    """
    if not (_several("maximize", maximize) or _several("minimize", minimize)):
        maximize = "r2" if set(keras.tree.flatten(data.task)) == {"regression"} else "accuracy"
    given = [(name, 1) for name in _several("maximize", maximize)] + [(name, -1) for name in _several("minimize", minimize)]
    names = [objective(name) for name, _ in given]
    for name, (said, sign) in zip(names, given, strict=True):
        argument, known = "maximize" if sign > 0 else "minimize", figure(name)
        _of_task(argument, said, name, data)
        if known is not None and (known.better == "higher") != (sign > 0) and not name.startswith("delta/"):
            raise ValueError(f"`{argument}`: of {known.title}, {known.better} is better. Received: {argument}={said!r}.")
        if names.count(name) > 1:
            raise ValueError(f"`{argument}`: {said!r} is among the objectives twice. Name it once.")
    kept: dict[str, float] = {}
    if not isinstance(limits, Mapping | None):
        raise TypeError(f'`limits`: expected a dict such as {{"parameters": 50_000}}. Received: {limits!r}.')
    for said, limit in (limits or {}).items():
        name = objective(said)
        _of_task("limits", said, name, data)
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
            raise TypeError(f"`limits`: expected a number for {said!r}. Received: {limit!r}.")
        kept[name] = limit
    if data.validation is None and any(name.startswith("validation/") for name in (*names, *kept)):
        raise ValueError(
            "`data`: a search chooses on the validation split, and there is none. Give one: kdfuse.Data(train=..., validation=0.1)."
        )
    return Goals(tuple(names), tuple(sign for _, sign in given), kept)


def front(values: Sequence[tuple[float, ...]]) -> list[int]:
    """The places of the Pareto front: those that no other beats in one objective without losing in another.

    Args:
        values: objectives, more being better. Of equal ones the first alone is on the front.

    Returns:
        Places, best in the first objective first.
    """
    found = [
        place
        for place, own in enumerate(values)
        if not any(
            all(a >= b for a, b in zip(other, own, strict=True)) and (other != own or at < place)
            for at, other in enumerate(values)
            if at != place
        )
    ]
    return sorted(found, key=lambda place: tuple(-value for value in values[place]))


def ranked(values: Sequence[tuple[float, ...]]) -> list[int]:
    """All places, best first: front after front, each in the order of the first objective (Deb 2002, non-dominated sorting)."""
    left, order = list(range(len(values))), []
    while left:
        best = [left[place] for place in front([values[at] for at in left])]
        order += best
        left = [place for place in left if place not in best]
    return order


def _several(argument: str, names: Any) -> tuple[str, ...]:
    if names is None or isinstance(names, str):
        return () if names is None else (names,)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"`{argument}`: expected a name such as 'accuracy', or several. Received: {argument}={names!r}.")
    return tuple(names)


def _of_task(argument: str, said: str, name: str, data: Data) -> None:
    """Raise where a figure is of the test split, or not of the task."""
    if "test/" in name:
        raise ValueError(f"`{argument}`: the test split is read once, at the end, and chooses nothing. Received: {said!r}. Use validation.")
    split, _, short = name.partition("/")
    tasks = keras.tree.flatten(data.task)
    if split != "validation" or "/" in short:
        return
    if len(tasks) > 1 and (short not in MEANS or set(tasks) == {"regression"}):
        raise ValueError(f"`{argument}`: of several outputs, name one: 'validation/<output>/{short}'. Received: {said!r}.")
    if len(tasks) == 1 and (short in REGRESSION) != (tasks[0] == "regression"):
        there = "r2, rmse or mae" if tasks[0] == "regression" else "accuracy, macro_f1 or log_loss"
        raise ValueError(f"`{argument}`: the task is {tasks[0]}, which has no such figure. Received: {said!r}. Use {there}.")
