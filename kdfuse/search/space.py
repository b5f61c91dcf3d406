"""Spaces: what each setting of a builder or a technique may be."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from kdfuse.settings import SCALARS, named, settings


class Range:
    """A range of numbers: what `Int` and `Float` are. It has `rvs`, so scikit-learn's searches take it too."""

    low: float
    high: float
    log: bool

    def at(self, share: float) -> Any:
        """The value at a share of the range, from 0 (`low`) to 1 (`high`)."""
        raise NotImplementedError

    def points(self, count: int) -> list[Any]:
        """At most `count` different values that divide the range evenly, both ends included."""
        if count == 1:
            return [self.at(0.5)]
        return list(dict.fromkeys(self.at(place / (count - 1)) for place in range(count)))

    def rvs(self, size: Any = None, random_state: Any = None) -> Any:
        """Draw values, as the distributions of `scipy.stats` do.

        Args:
            size: None for one value, else the shape of an array of values.
            random_state: None, an integer, a `numpy.random.RandomState` or a `Generator`.

        Returns:
            An int or float, or an array of them.
        """
        source = random_state
        if source is None or isinstance(source, int | np.integer):
            source = np.random.RandomState(source) if source is not None else np.random.mtrand._rand  # type: ignore[attr-defined]
        if size is None:
            return self.at(float(source.uniform()))
        return np.array([self.at(float(share)) for share in source.uniform(size=size).ravel()]).reshape(size)

    def _check(self) -> None:
        kind = type(self).__name__
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
                raise TypeError(f"`{name}` of {kind}: expected a finite number. Received: {name}={value!r}.")
        if not isinstance(self.log, bool):
            raise TypeError(f"`log` of {kind}: expected True or False. Received: log={self.log!r}.")
        if not self.low < self.high:
            raise ValueError(
                f"`high` of {kind}: expected a number above low={self.low!r}. Received: high={self.high!r}. "
                "For one fixed value, give the value itself."
            )
        if self.log and self.low <= 0:
            raise ValueError(
                f"`low` of {kind}: a logarithmic range has no zero and no negative numbers. Received: low={self.low!r}, log=True. "
                "Give a small number above 0, or log=False."
            )


@settings
class Int(Range):
    """The integers from `low` to `high`, both included.

    Attributes:
        low: the smallest.
        high: the largest, above `low`.
        log: draw evenly in the logarithm; `low` is then above 0.
        step: the distance between two values, at least 1; not with `log`.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        self._check()
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if isinstance(value, bool) or int(value) != value:
                raise TypeError(f"`{name}` of Int: expected an integer. Received: {name}={value!r}.")
        if self.step < 1:
            raise ValueError(f"`step` of Int: expected an integer of at least 1. Received: step={self.step!r}.")
        if self.log and self.step != 1:
            raise ValueError(f"`step` of Int: a logarithmic range has none. Received: step={self.step!r}, log=True. Give one.")

    def at(self, share: float) -> int:
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(int(self.high), max(int(self.low), round(math.exp(low + share * (high - low)))))
        count = (self.high - self.low) // self.step + 1
        return int(self.low + self.step * min(count - 1, int(share * count)))

    def points(self, count: int) -> list[int]:
        if count == 1:
            return [self.at(0.5)]
        if self.log:
            ratio = (self.high / self.low) ** (1 / (count - 1))
            return list(dict.fromkeys(round(self.low * ratio**place) for place in range(count)))
        values = range(int(self.low), int(self.high) + 1, int(self.step))
        if len(values) <= count:
            return list(values)
        return [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]


@settings
class Float(Range):
    """The numbers from `low` to `high`.

    Attributes:
        low: the smallest.
        high: the largest, above `low`.
        log: draw evenly in the logarithm; `low` is then above 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        self._check()

    def at(self, share: float) -> float:
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return float(min(self.high, max(self.low, value)))


class Space:
    """What each setting may be, by its flat name.

    Args:
        settings: names to what they may be: a list or tuple of choices, an `Int`, a `Float`, another object with `rvs` (a
            distribution of `scipy.stats`), or one fixed value. A `range` and a NumPy array are lists.

    Raises:
        TypeError: it is no mapping of names, or choices have no order (a set, a generator).
        ValueError: a list of choices is empty.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if isinstance(settings, Space):
            settings = settings.parts
        if not isinstance(settings, Mapping) or not all(isinstance(name, str) and name for name in settings):
            raise TypeError(
                f"`space`: expected a dict of setting names to what they may be. Received: {settings!r}. "
                'Give one such as {"training__learning_rate": kdfuse.Float(1e-4, 1e-1, log=True)}.'
            )
        if not settings:
            raise ValueError("`space`: expected at least one setting. Received an empty dict: there is nothing to choose.")
        self.parts: dict[str, Any] = {}
        for name, part in settings.items():
            if isinstance(part, list | tuple | range | np.ndarray):
                if not len(part):
                    raise ValueError(f"`space`: expected choices for {name!r}. Received an empty list. Name at least one value.")
                part = tuple(map(_python, part))
            elif isinstance(part, Set | Iterator):
                raise TypeError(f"`space`: expected choices for {name!r} in an order of their own. Received: {part!r}. Give a list.")
            elif isinstance(part, type) and issubclass(part, Range):
                raise TypeError(f"`space`: expected {part.__name__}(low, high) for {name!r}. Received the class {part.__name__}.")
            elif not hasattr(part, "rvs"):
                part = (part,)
            self.parts[name] = part

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __contains__(self, name: object) -> bool:
        return name in self.parts

    def choices(self, name: str) -> tuple[Any, ...]:
        """The choices of a setting; none for a range."""
        part = self.parts.get(name, ())
        return part if isinstance(part, tuple) else ()

    def draw(self, source: np.random.RandomState) -> dict[str, Any]:
        """One value for each setting, drawn independently and evenly (in the logarithm where a range says so)."""
        found = {}
        for name, part in self.parts.items():
            found[name] = part[source.randint(len(part))] if isinstance(part, tuple) else _python(part.rvs(random_state=source))
        return found

    def grid(self, points: int) -> Iterator[dict[str, Any]]:
        """Every combination, the last setting changing fastest.

        Args:
            points: into how many values a range is divided.

        Raises:
            TypeError: a part is neither choices nor an `Int` or `Float`.
        """
        every: list[Sequence[Any]] = []
        for name, part in self.parts.items():
            if not isinstance(part, tuple | Range):
                raise TypeError(f"`space`: a grid has no points of {type(part).__name__} for {name!r}. Give a list, an Int or a Float.")
            every.append(part if isinstance(part, tuple) else part.points(points))
        for values in itertools.product(*every):
            yield dict(zip(self.parts, values, strict=True))

    def labels(self, name: str) -> dict[str, Any]:
        """The choices of a setting by a text for each: for tables, and for samplers that take texts only."""
        found: dict[str, Any] = {}
        for place, value in enumerate(self.choices(name)):
            text = label(value)
            found[text if text not in found else f"{text} ({place})"] = value
        return found

    def text(self, name: str, value: Any) -> Any:
        """A value of a setting as a number or a text, which no other choice has."""
        if isinstance(value, SCALARS) and value is not None:
            return value
        told = label(value)
        if told == repr(value) and _literal(value):  # equal ones are one
            return told
        return next((text for text, choice in self.labels(name).items() if choice is value), told)


def _literal(value: Any) -> bool:
    """Whether the `repr` says all of a value."""
    return all(map(_literal, value)) if type(value) is tuple else isinstance(value, SCALARS)


def _python(value: Any) -> Any:
    """A number of NumPy as one of Python, which JSON, Keras and tables take; any other value as it is."""
    return value.item() if isinstance(value, np.generic) else value


def label(value: Any) -> str:
    """A short text for a value of a space: a builder's name, a technique's, else its `repr`."""
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    text = repr(value)
    return text if len(text) <= 60 and " at 0x" not in text else named(value)


def seeded(*parts: int) -> np.random.RandomState:
    """A source of draws that depends on the numbers given alone."""
    return np.random.RandomState(np.random.SeedSequence(parts).generate_state(4))
