"""Conditional: which names of a space apply to a scikit-learn estimator, given what was chosen for the others."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from sklearn.base import clone

from kdfuse.search.space import Space, label, seeded
from kdfuse.settings import suggest

MISSES = 500
"""Draws in a row that give nothing new, before a space counts as tried whole."""


class Conditional:
    """A space over the parameters of any scikit-learn estimator.

    A name that the estimator does not have with the other choices is left out: `build__filters` of a builder without filters,
    `clf__gamma` of a pipeline whose `clf` is a linear model.

    Args:
        estimator: it is only read.
        space: names as in `get_params` to what they may be.

    Raises:
        ValueError: a name that the estimator has with no choice of the others; the message names the near ones.
    """

    def __init__(self, estimator: Any, space: Mapping[str, Any] | Space) -> None:
        self.estimator, self.space = estimator, Space(space)  # type: ignore[arg-type]
        self.order = sorted(self.space, key=lambda name: name.count("__"))
        variants = [clone(estimator)]
        for name in self.order:
            having = [one for one in variants if applies(one, name)]
            if not having:
                known = dict.fromkeys(own for one in variants for own in one.get_params())
                raise ValueError(f"`space`: {type(estimator).__name__} has no parameter {name!r}. {suggest(name, known)}")
            if self._decides(name):
                variants += [_with(one, name, value) for one in having for value in self.space.choices(name)]

    def params(self, value: Callable[[str], Any]) -> dict[str, Any]:
        """The names that apply, with their values.

        Args:
            value: gives the value of a name; it is asked only for those that apply, the outer ones first.
        """
        estimator, found = clone(self.estimator), {}
        for name in self.order:
            if applies(estimator, name):
                found[name] = value(name)
                if self._decides(name):
                    estimator = _with(estimator, name, found[name])
        return {name: found[name] for name in self.space if name in found}

    def drawn(self, seed: int) -> Iterator[dict[str, Any]]:
        """Different candidates in an order that depends on the seed alone, each setting drawn evenly."""
        seen: set[str] = set()
        missed = 0
        for number in count():
            params = self.params(self.space.draw(seeded(seed, number)).__getitem__)
            mark = self.mark(params)
            missed = missed + 1 if mark in seen else 0
            if missed > MISSES:
                return
            if not missed:
                seen.add(mark)
                yield params

    def every(self, points: int) -> Iterator[dict[str, Any]]:
        """Every different candidate of the grid, ranges divided into `points` values."""
        seen: set[str] = set()
        for values in self.space.grid(points):
            params = self.params(values.__getitem__)
            mark = self.mark(params)
            if mark not in seen:
                seen.add(mark)
                yield params

    def texts(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Values as JSON can hold them: numbers of ranges, texts of choices."""
        return {name: self._text(name, value) for name, value in params.items()}

    def values(self, texts: Mapping[str, Any]) -> dict[str, Any]:
        """The values that `texts` gave.

        Raises:
            KeyError: a name that this space does not have, or a text that stands for no choice of it.
        """
        return {name: self.space.labels(name)[text] if isinstance(self.space.parts[name], tuple) else text for name, text in texts.items()}

    def mark(self, params: Mapping[str, Any]) -> str:
        """A text that is the same for the same candidate."""
        return repr(sorted(self.texts(params).items()))

    def _decides(self, name: str) -> bool:
        return any(other.startswith(f"{name}__") for other in self.space)

    def _text(self, name: str, value: Any) -> Any:
        if not self.space.choices(name):
            return value.item() if hasattr(value, "item") else value
        return next((text for text, choice in self.space.labels(name).items() if choice is value), label(value))


def applies(estimator: Any, name: str) -> bool:
    """Whether an estimator has a parameter, also a Keras estimator inside whose builder takes settings of any name."""
    params = estimator.get_params()
    if name in params:
        return True
    parts = name.split("__")
    owners = [(estimator, name)] + [(params.get("__".join(parts[:place])), "__".join(parts[place:])) for place in range(1, len(parts))]
    return any(hasattr(owner, "takes_setting") and owner.takes_setting(rest) for owner, rest in owners)


def _with(estimator: Any, name: str, value: Any) -> Any:
    return clone(estimator).set_params(**{name: clone(value, safe=False)})
