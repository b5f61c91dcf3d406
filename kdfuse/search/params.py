"""Params: what a scikit-learn estimator of Keras models is made of, by names that `get_params` and `set_params` know.

An estimator holds a builder, a technique, a training and, under flat names, settings of these three that differ from theirs.
"""

import contextlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from kdfuse.settings import field_names, flatten, is_settings, names, replace, suggest
from kdfuse.technique import Technique
from kdfuse.train import Train

PARTS = ("build", "technique", "training")
ANY = "**"


def builder_settings(build: Any) -> dict[str, Any]:
    """The settings of a builder with their defaults; `**` among them where it takes any. Empty for what is no builder."""
    if not callable(build) or isinstance(build, keras.Layer):
        return {}
    try:
        parameters = list(inspect.signature(build).parameters.values())
    except (TypeError, ValueError):
        return {}
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = {one.name: None if one.default is one.empty else one.default for one in parameters[1:] if one.kind in kinds}
    return found | ({ANY: None} if any(one.kind is one.VAR_KEYWORD for one in parameters) else {})


def takes(build: Any, name: str) -> bool:
    """Whether a builder has a setting."""
    known = builder_settings(build)
    return name in known or ANY in known


def technique_of(technique: Technique | None, training: Any, settings: Mapping[str, Any]) -> Technique:
    """The technique that an estimator applies.

    Args:
        technique: None for the training alone.
        training: takes the place of the technique's own; None keeps that, and is `Train()` where there is no technique.
        settings: `training__x` and `technique__x` to new values; other names are left out.

    Raises:
        TypeError: not a technique, a training for a technique that has none, or an unknown name.
    """
    for argument, value in (("technique", technique), ("training", training)):
        if value is not None and not isinstance(value, Technique):
            raise TypeError(f"`{argument}`: expected a technique, such as kdfuse.Train(), or None. Received: {value!r}.")
    own = technique or training or Train()
    if technique is not None and training is not None:
        if "training" not in field_names(technique):
            raise TypeError(
                f"`training`: {type(technique).__name__} has no setting `training` of its own that it could replace. "
                "Give the training inside the technique."
            )
        own = replace(technique, {"training": training})
    changes = {}
    for name, value in settings.items():
        part, _, rest = name.partition("__")
        if part in ("technique", "training"):
            changes[rest if part == "technique" or _is_training(own) else name] = value
    return replace(own, changes) if changes else own


def nested(build: Any, technique: Any, training: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every nested name of an estimator with its present value, as far as the parts are what they should be.

    A technique's own training is found under `training__` alone. A value of which `settings` change a part is given as it was, so that
    two estimators of the same parts and settings give the same.
    """
    found = {f"build__{name}": value for name, value in builder_settings(build).items() if name != ANY}
    try:
        before, own = (technique_of(technique, training, changes) for changes in ({}, settings))
    except (TypeError, ValueError):
        return {**found, **settings}
    old, new = (_values(one) for one in (before, own))
    whole = {name for name in new if name in old and any(one.startswith(f"{name}__") for one in settings)}
    return {**found, **new, **{name: old[name] for name in whole}, **settings}


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes: a whole takes the place of its parts, and a part is changed inside the whole that is held."""
    found = dict(settings)
    for name in sorted(changes, key=lambda one: one.count("__")):
        found = {one: value for one, value in found.items() if not one.startswith(f"{name}__")}
        whole = next((one for one in found if name.startswith(f"{one}__")), None)
        if whole is None:
            found[name] = changes[name]
        else:
            found[whole] = replace(found[whole], {name[len(whole) + 2 :]: changes[name]})
    return found


def check_names(owner: str, arguments: Iterable[str], parts: Sequence[Any], settings: Mapping[str, Any]) -> None:
    """Raise `TypeError` naming the near ones where a name is not a setting of the builder, the technique or the training.

    Args:
        owner: the estimator's name.
        arguments: the names of its constructor's arguments.
        parts: builder, technique, training; nothing is checked where one of them is no such thing.
        settings: flat names to values.
    """
    build, technique, training = parts
    if not callable(build) or not all(one is None or isinstance(one, Technique) for one in (technique, training)):
        return  # `fit` says what is wrong with them
    for name in settings:
        part, _, rest = name.partition("__")
        if part == "build" and rest and takes(build, rest):
            continue
        if part == "build" and rest and not builder_settings(build):
            raise TypeError(f"{owner} has no setting {name!r}: `build` is {type(build).__name__}, which takes none. Give a builder.")
        known = nested(build, technique, training, {one: settings[one] for one in settings if name.startswith(f"{one}__")})
        if part not in ("technique", "training") or name not in known:
            raise TypeError(f"{owner} has no setting {name!r}. {suggest(name, [*arguments, *known])}")


def reseeded(technique: Technique, seed: int | None) -> Technique:
    """A technique with every `seed` among its settings set; None leaves them."""
    flat = flatten(technique, leaf=lambda value: "model" if isinstance(value, keras.Model) else None)
    seeds = [name for name, value in flat.items() if name.rpartition("__")[2] == "seed" and (value is None or type(value) is int)]
    return technique if seed is None else replace(technique, dict.fromkeys(seeds, seed))


def _is_training(technique: Technique) -> bool:
    """Whether it trains by itself: `training__x` is then its own setting x."""
    return isinstance(technique, Train) or ("training" not in field_names(technique) and hasattr(technique, "fit"))


def _values(technique: Technique) -> dict[str, Any]:
    """Every setting of a technique by its name in an estimator."""
    found = {}
    for name in names(technique):
        outer = f"training__{name}" if _is_training(technique) else name if name.startswith("training__") else f"technique__{name}"
        if outer != "technique__training":  # that is the argument `training`
            with contextlib.suppress(KeyError, IndexError, ValueError, AttributeError):  # a key that itself holds two underscores
                found[outer] = _at(technique, name)
    return found


def _at(value: Any, name: str) -> Any:
    for part in name.split("__"):
        if is_settings(value):
            value = getattr(value, part)
        elif isinstance(value, list | tuple):
            value = value[int(part)]
        elif isinstance(value, Mapping):
            value = {str(key): item for key, item in value.items()}[part]
        else:
            value = value.get_config()[part]
    return value
