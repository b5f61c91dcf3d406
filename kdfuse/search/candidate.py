"""Candidates: what a space's values make of a builder and a technique, and which of its names apply."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from kdfuse.models.builder import setting_names
from kdfuse.search.space import Range, Space, label, seeded
from kdfuse.settings import names, replace, suggest
from kdfuse.technique import Technique
from kdfuse.train import Train

Value = Callable[[str], Any]
TRIES = 32
"""Candidates that a technique must refuse the user's model with, before it counts as refused whatever the space chooses."""


@dataclasses.dataclass
class Candidate:
    """One choice of settings.

    Attributes:
        number: its place in the search, from 0.
        params: the names that apply, with their values.
        technique: the technique with its settings.
        build: a builder, or a model that every candidate begins with.
        settings: of the builder.
        told: the params as numbers and texts; no two choices of a setting have the same.
        error: why the technique cannot have these settings together; empty where it can.
    """

    number: int
    params: dict[str, Any]
    technique: Technique
    build: Any
    settings: dict[str, Any]
    told: dict[str, Any]
    error: str = ""

    def model(self, data: Any) -> keras.Model:
        """The model it begins with."""
        return self.build if isinstance(self.build, keras.Model) else self.build(data, **self.settings)

    def texts(self) -> dict[str, Any]:
        """The params as numbers and texts, for tables, runs and files."""
        return dict(self.told)


class Choice:
    """What there is to choose: a space over the settings of builders and techniques.

    `build` and `technique` in the space are the builder and the technique themselves, `build__x` is the setting `x` of the builder, every
    other name one of the technique. With a technique that is a `Train`, `training__x` is its setting `x`, so that one space serves
    `Train` and what trains with one. A name that the chosen builder or technique does not have is left out for it.

    Args:
        technique: what is called with each candidate's model, unless the space has `technique`.
        space: names to what they may be.
        build: a builder, a model, or None where the space has `build`.
        seed: given to builders that take one, unless the space has `build__seed`.

    Raises:
        TypeError: an unknown name (the near ones are named), or no builder.
        ValueError: a value that the setting cannot have.
    """

    def __init__(self, technique: Technique, space: Mapping[str, Any] | Space, build: Any, seed: int = 0) -> None:
        self.technique, self.space, self.build, self.seed = technique, Space(space), build, seed  # type: ignore[arg-type]
        self.order = sorted(self.space, key=lambda name: (name not in ("build", "technique"), name.count("__")))
        for name in self.order:
            self._check(name)

    def candidate(self, number: int, value: Value) -> Candidate:
        """The candidate of some values.

        Args:
            number: its place in the search.
            value: gives the value of a name; it is asked for the names that apply, in an order that depends on the space alone.
        """
        params: dict[str, Any] = {}
        technique, build, settings, wrong = self.technique, self.build, {}, ""
        for name in self.order:
            if name == "build":
                build = params[name] = value(name)
            elif name == "technique":
                technique = params[name] = value(name)
            elif name.startswith("build__"):
                if _takes(build, name[7:]):
                    settings[name[7:]] = params[name] = value(name)
            elif _own(technique, name) in names(technique):
                params[name] = value(name)
                try:
                    technique = replace(technique, {_own(technique, name): params[name]})
                except (TypeError, ValueError) as error:  # each is possible by itself, but not with what was chosen before
                    wrong = wrong or f"{type(error).__name__}: {error}"
        if not isinstance(build, keras.Model) and _takes(build, "seed") and "**" not in _settings(build):
            settings.setdefault("seed", self.seed)
        in_order = {name: params[name] for name in self.space if name in params}
        told = {name: self.space.text(name, chosen) for name, chosen in in_order.items()}
        return Candidate(number, in_order, technique, build, settings, told, wrong)

    def from_values(self, number: int, values: Mapping[str, Any]) -> Candidate:
        """The candidate of given values, of which those that do not apply are left out."""
        return self.candidate(number, values.__getitem__)

    def builders(self) -> tuple[Any, ...]:
        """Every builder or model that a candidate may have."""
        return self.space.choices("build") or ((self.build,) if self.build is not None else ())

    def techniques(self) -> tuple[Technique, ...]:
        """Every technique that a candidate may have, before its settings are chosen."""
        return self.space.choices("technique") or (self.technique,)

    def check_model(self, data: Any) -> None:
        """Raise what a technique says of a model that it refuses with every candidate; nothing where builders make the models.

        Raises:
            TypeError, ValueError: the technique's own error.
        """
        refusal: Exception | None = None
        for number in range(TRIES if all(isinstance(build, keras.Model) for build in self.builders()) else 0):
            candidate = self.from_values(number, self.space.draw(seeded(self.seed, number)))
            try:
                candidate.technique.check(candidate.build, data)
                return
            except (TypeError, ValueError) as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal

    def _check(self, name: str) -> None:
        if name == "build":
            for build in self.builders():
                if not callable(build):
                    raise TypeError(f"`space`: expected builders for 'build', such as kdfuse.models.mlp. Received: {build!r}.")
        elif name == "technique":
            for technique in self.techniques():
                if not isinstance(technique, Technique):
                    raise TypeError(f"`space`: expected techniques for 'technique', such as kdfuse.Train(). Received: {technique!r}.")
        elif name.startswith("build__"):
            if any(isinstance(build, keras.Model) for build in self.builders()):
                raise TypeError(f"`space`: {name!r} is a setting of a builder, and a model was given. Give a builder, or leave it out.")
            if not any(_takes(build, name[7:]) for build in self.builders()):
                known = [f"build__{one}" for build in self.builders() for one in _settings(build)]
                raise TypeError(f"`space`: no builder has the setting {name!r}. {suggest(name, dict.fromkeys(known))}")
        else:
            self._check_technique(name)

    def _check_technique(self, name: str) -> None:
        """Some technique, with some choice of the names above this one, has the name, and takes every value by itself."""
        variants = list(self.techniques())
        for above in self.order:
            if name.startswith(f"{above}__"):
                variants += [made for value in self._values(above) for made in _tried(variants, above, value)]
        having = [one for one in variants if _own(one, name) in names(one)]
        if not having:
            known = dict.fromkeys(_outer(one, own) for one in variants for own in names(one))
            raise TypeError(f"`space`: the technique has no setting {name!r}. {suggest(name, known)}")
        for value in self._values(name):
            error: Exception | None = None
            for one in having:
                try:
                    replace(one, {_own(one, name): value})
                    break
                except (TypeError, ValueError) as raised:
                    error = raised
            else:
                raise ValueError(f"`space`: {name!r} cannot be {label(value)}. {error}") from error

    def _values(self, name: str) -> Iterable[Any]:
        """The choices of a name, or both ends of its range."""
        part = self.space.parts[name]
        return part if isinstance(part, tuple) else (part.at(0.0), part.at(1.0)) if isinstance(part, Range) else ()


def _tried(variants: Iterable[Technique], name: str, value: Any) -> list[Technique]:
    made = []
    for one in variants:
        try:
            made.append(replace(one, {_own(one, name): value}))
        except (TypeError, ValueError):
            continue
    return made


def _own(technique: Technique, name: str) -> str:
    return name.removeprefix("training__") if isinstance(technique, Train) else name


def _outer(technique: Technique, name: str) -> str:
    return f"training__{name}" if isinstance(technique, Train) else name


def _takes(build: Any, name: str) -> bool:
    known = _settings(build)
    return name in known or "**" in known


def _settings(build: Any) -> tuple[str, ...]:
    """The settings of a builder; `**` among them where it takes any."""
    if isinstance(build, keras.Model):
        return ()
    own = setting_names(build)
    parameters = list(inspect.signature(build).parameters.values())[1:]
    own += tuple(one.name for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return own + (("**",) if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters) else ())
