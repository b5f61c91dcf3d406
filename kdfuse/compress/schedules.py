"""When a run prunes, and how much: the schedules of sparsity."""

import dataclasses
import math
from typing import Any

import numpy as np

from kdfuse.settings import choose, settings

Moment = int | float
SHORTER = "Train for more epochs, or let the schedule end earlier."


@dataclasses.dataclass(frozen=True)
class Plan:
    """A schedule in the steps of one run, counted from 1.

    Attributes:
        begin: the first step before which masks may be made.
        end: the last one; None to the end of the run.
        frequency: steps from one to the next; None for one time alone, at `begin`.
        reached: the step from which on the final sparsity holds.
        initial: the sparsity at `begin`; None for the final one throughout.
        power: of the polynomial.
    """

    begin: int
    end: int | None
    frequency: int | None
    reached: int
    initial: float | None = None
    power: float = 3.0

    def due(self, step: Any) -> Any:
        """Whether masks are made anew before this step: of a number, or of a tensor in a graph."""
        if self.frequency is None:
            return step == self.begin
        turn = (step >= self.begin) & ((step - self.begin) % self.frequency == 0)
        return turn if self.end is None else turn & (step <= self.end)

    def last(self, step: int) -> int:
        """The last step up to this one at which masks were made; 0 for none."""
        if self.frequency is None or step < self.begin:
            return self.begin if self.begin <= step else 0
        until = step if self.end is None else min(step, self.end)
        return until - (until - self.begin) % self.frequency

    def sparsity(self, step: int, final: float) -> float:
        """The sparsity at a step for a weight that ends at `final`, in float32 as TFMOT computes it."""
        if self.initial is None or self.end is None:
            return float(np.float32(final))
        passed = np.float32(step - self.begin) / np.float32(self.end - self.begin)
        left = np.float32(1) - np.clip(passed, np.float32(0), np.float32(1))
        return float(np.float32(self.initial - final) * np.float32(float(left) ** self.power) + np.float32(final))


NEVER = Plan(0, None, None, 0)
"""For masks that are there from the beginning: steps count from 1."""


@settings
class ConstantSparsity:
    """The final sparsity at once.

    Attributes:
        begin: the step of the first masks, as in TFMOT from 1 (0 is before the first step, so that the first ones come at step
            `frequency`); or below 1 as a share of the run.
        end: the last step at which masks may change; None to the end.
        frequency: steps between two masks, in between and afterwards they hold; None for one mask alone.
    """

    begin: Moment = 1
    end: Moment | None = None
    frequency: int | None = None

    def __post_init__(self) -> None:
        _check("ConstantSparsity", begin=self.begin, end=self.end, frequency=self.frequency)

    def plan(self, steps: int | None) -> Plan:
        """The schedule in a run of so many steps; None where that is not known.

        Raises:
            ValueError: it does not fit into the run.
        """
        begin, end = _step("begin", self.begin, steps), None if self.end is None else _step("end", self.end, steps)
        first = begin if begin > 0 else (self.frequency or 1)
        begin = max(begin, 1) if self.frequency is None else begin
        if end is not None and end < first:
            raise ValueError(f"`end` of ConstantSparsity: expected a step from the first mask, {first}, on. Received: {end}.")
        _fits("ConstantSparsity", max(first, end or 0), steps)
        return Plan(begin, end, self.frequency, first)


@settings
class PolynomialSparsity:
    """From `initial` to the final sparsity: `final + (initial - final) * (1 - (step - begin) / (end - begin)) ** power`.

    Zhu and Gupta 2017 (arXiv 1710.01878); TFMOT's PolynomialDecay, whose `begin_step`, `end_step` and `frequency` these are. After
    `end` the masks hold and what is left is trained.

    Attributes:
        initial: the sparsity at `begin`, in [0, 1).
        begin: the step of the first masks, from 0; or below 1 as a share of the run.
        end: the step of the last ones; or up to 1.0 as a share of the run.
        frequency: steps between two masks, a divisor of `end - begin` where these are steps; None for about a hundred masks.
        power: above 0.
    """

    initial: float = 0.0
    begin: Moment = 0.0
    end: Moment = 0.6
    frequency: int | None = None
    power: float = 3.0

    def __post_init__(self) -> None:
        _check("PolynomialSparsity", begin=self.begin, end=self.end, frequency=self.frequency)
        if not _number(self.initial) or not 0 <= self.initial < 1:
            raise ValueError(f"`initial` of PolynomialSparsity: expected a number in [0, 1). Received: initial={self.initial!r}.")
        if not _number(self.power) or not 0 < self.power < math.inf:
            raise ValueError(f"`power` of PolynomialSparsity: expected a number above 0. Received: power={self.power!r}.")

    def plan(self, steps: int | None) -> Plan:
        """The schedule in a run of so many steps; None where that is not known.

        Raises:
            ValueError: it does not fit into the run, or its last mask would come before the end and be short of the final sparsity.
        """
        begin, end = _step("begin", self.begin, steps), _step("end", self.end, steps)
        if end <= begin:
            raise ValueError(
                f"`end` of PolynomialSparsity: expected a step after `begin`. Received: steps {begin} to {end}"
                + (f" of {steps}. {SHORTER}" if steps is not None else ".")
            )
        frequency = self.frequency or _frequency(end - begin, isinstance(self.end, float))
        short = (end - begin) % frequency
        if short and isinstance(self.end, float) and end - short > begin:
            end -= short  # a share is no promise of one step
        elif short:
            raise ValueError(
                f"`frequency` of PolynomialSparsity: expected a divisor of end - begin = {end - begin}, else the last masks come {short} "
                f"steps before the end, short of the final sparsity. Received: {frequency}. Give end={end - short}, or frequency=None."
            )
        _fits("PolynomialSparsity", end, steps)
        return Plan(begin, end, frequency, end, float(self.initial), float(self.power))


@settings
class IterativeSparsity:
    """Prune a part of what is left, train, and again: after round i of n the sparsity is `1 - (1 - final) ** (i / n)`.

    Each round is a whole `training`, under masks that hold. Han et al. 2015 (arXiv 1506.02626).

    Attributes:
        rounds: at least 1.
        rewind: `rate`: each round goes on with the weights, and the learning rate of `training` begins again (Renda et al. 2020,
            arXiv 2003.02389; with a constant small rate, Han's fine-tuning). `weights`: before each round what is left goes back to
            the weights of the model that was given, which is first trained once without masks (lottery tickets; give a model that was
            trained for a few epochs for late rewinding: Frankle et al. 2020, arXiv 1912.05671).
    """

    rounds: int = 3
    rewind: str = "rate"

    def __post_init__(self) -> None:
        if isinstance(self.rounds, bool) or not isinstance(self.rounds, int) or self.rounds < 1:
            raise ValueError(f"`rounds` of IterativeSparsity: expected an integer of at least 1. Received: rounds={self.rounds!r}.")
        choose("rewind", self.rewind, ("rate", "weights"))

    def sparsity(self, number: int, final: float) -> float:
        """The sparsity after a round, counted from 1."""
        return final if number >= self.rounds else 1.0 - (1.0 - final) ** (number / self.rounds)


Schedule = ConstantSparsity | PolynomialSparsity | IterativeSparsity
NAMES = {"constant": ConstantSparsity, "polynomial": PolynomialSparsity, "iterative": IterativeSparsity}


def make_schedule(schedule: str | Schedule) -> Schedule:
    """A schedule from its name or itself.

    Raises:
        ValueError: an unknown name.
        TypeError: neither.
    """
    if isinstance(schedule, str):
        return NAMES[choose("schedule", schedule, NAMES)]()
    if not isinstance(schedule, Schedule):
        raise TypeError(f"`schedule`: expected one of {list(NAMES)} or such as kdfuse.PolynomialSparsity(end=0.5). Received: {schedule!r}.")
    return schedule


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(owner: str, *, begin: Any, end: Any, frequency: Any) -> None:
    for name, value in (("begin", begin), ("end", end)):
        if value is None and name == "end":
            continue
        if not _number(value) or value < 0 or (isinstance(value, float) and value > 1):
            raise ValueError(f"`{name}` of {owner}: expected a step from 0, or a share of the run from 0.0 to 1.0. Received: {value!r}.")
    if frequency is not None and (isinstance(frequency, bool) or not isinstance(frequency, int) or frequency < 1):
        raise ValueError(f"`frequency` of {owner}: expected an integer of at least 1, or None. Received: frequency={frequency!r}.")


def _step(name: str, moment: Moment, steps: int | None) -> int:
    if not isinstance(moment, float):
        return int(moment)
    if steps is None:
        raise ValueError(
            f"`{name}`: a share of the run needs to know its steps, and the training stream does not tell its length. Give a step as an "
            "integer, use dataset.apply(tf.data.experimental.assert_cardinality(n)), or schedule='constant'."
        )
    return max(1, round(moment * steps))


def _frequency(span: int, free: bool) -> int:
    """Steps between about a hundred masks; where the end is not free to move, a divisor of the span."""
    wanted = max(1, span // 100)
    return wanted if free else max(one for one in range(1, wanted + 1) if span % one == 0)


def _fits(owner: str, last: int, steps: int | None) -> None:
    if steps is not None and last > steps:
        raise ValueError(f"`schedule`: {owner} goes on to step {last}, and the run has {steps} steps. {SHORTER}")
