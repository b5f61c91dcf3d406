"""Settings: frozen dataclasses whose fields give names, parameters, copies and errors.

A technique is described by its fields alone. From them come the flat names used by searches and by MLflow
(`training__learning_rate`, `losses__0__temperature`), the copy with some of them changed, and the error for a
name that does not exist, which suggests the near ones.
"""

import dataclasses
import difflib
import functools
import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")
Leaf = Callable[[Any], str | None]

SCALARS = (bool, int, float, str, type(None))


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass of settings.

    Lists given to its constructor become tuples, and an unknown name raises `TypeError` naming the near ones.

    Args:
        cls: a class with annotated fields. A `__post_init__` may check them.

    Returns:
        The class as a frozen dataclass.
    """
    made = dataclasses.dataclass(frozen=True, eq=False)(cls)
    construct = made.__init__

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        known = field_names(made)
        for name in kwargs:
            if name not in known:
                raise TypeError(unknown(made.__name__, name, known))
        construct(self, *map(_frozen, args), **{name: _frozen(value) for name, value in kwargs.items()})

    __init__.__signature__ = inspect.signature(construct)  # type: ignore[attr-defined]
    made.__init__ = __init__  # type: ignore[method-assign]
    return made


def is_settings(value: Any) -> bool:
    """Whether `value` is an object (not a class) whose fields are settings."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def field_names(value: Any) -> tuple[str, ...]:
    """The names of the settings of a dataclass or of an instance of one."""
    return tuple(field.name for field in dataclasses.fields(value) if field.init)


def suggest(name: str, known: Iterable[str]) -> str:
    """A sentence that names what `name` was probably meant to be, from the names in `known`."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(candidate) for candidate in near) + "?"
    return "Known: " + ", ".join(repr(candidate) for candidate in names) + "." if names else "It has none."


def unknown(owner: str, name: str, known: Iterable[str]) -> str:
    """The message of the error for a setting that `owner` does not have."""
    return f"{owner} has no setting {name!r}. {suggest(name, known)}"


def choose(argument: str, value: str, known: Iterable[str]) -> str:
    """Return `value` if it is one of `known`.

    Raises:
        ValueError: it is not; the message names the near ones.
    """
    names = list(known)
    if value not in names:
        raise ValueError(f"`{argument}`: expected one of {names}. Received: {argument}={value!r}. {suggest(str(value), names)}")
    return value


def quoted(error: BaseException, most: int = 200) -> str:
    """The text of an error in one line of at most so many characters, without the codes with which Keras writes in bold."""
    return " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).split())[:most]


def flatten(value: Any, *, leaf: Leaf | None = None) -> dict[str, Any]:
    """Flatten settings to `{"a__b": scalar}`.

    Dataclasses are read by their fields, sequences by position, mappings by key, Keras objects through their
    `get_config`. An object with parts also gives one entry with the name of its class (`"losses__0": "SoftTargets"`).

    Args:
        value: settings, a sequence, a mapping or a Keras object.
        leaf: called first for every value; a string it returns stands for the whole value (a model's fingerprint).

    Returns:
        Names to bool, int, float, str or None, in the order of the fields.
    """
    return dict(_walk("", value, leaf, depth=0))


def replace(value: T, changes: Mapping[str, Any]) -> T:
    """A copy of `value` with some settings changed, by the names that `flatten` gives.

    Args:
        value: settings, a tuple, a mapping or a Keras object with `get_config` and `from_config`.
        changes: flat names to new values, for example `{"losses__0__temperature": 2.0}`.

    Raises:
        TypeError: there is no such setting; the message names the near ones.
    """
    return _replaced(value, changes, value, "")  # type: ignore[no-any-return]


def _replaced(value: Any, changes: Mapping[str, Any], whole: Any, prefix: str) -> Any:
    heads: dict[str, dict[str, Any]] = {}
    for name, new in changes.items():
        head, separator, rest = name.partition("__")
        if separator and not rest:
            raise TypeError(unknown(type(whole).__name__, prefix + name, names(whole)))
        part = heads.setdefault(head, {})
        if "" in part or (not rest and part):
            raise TypeError(f"{prefix + head!r} is changed both as a whole and in part. Give one of the two.")
        part[rest] = new
    parts = _parts(value)
    new_parts: dict[str, Any] = {}
    for head, change in heads.items():
        if parts is None or head not in parts:
            full = head if "" in change else f"{head}__{next(iter(change))}"
            raise TypeError(unknown(type(whole).__name__, prefix + full, names(whole)))
        new_parts[head] = change[""] if "" in change else _replaced(parts[head], change, whole, f"{prefix}{head}__")
    return _rebuild(value, new_parts)


def names(value: Any) -> list[str]:
    """Every name that `replace` takes for `value`."""
    return list(dict.fromkeys([*(_parts(value) or {}), *flatten(value)]))


def named(value: Any) -> str:
    """A stable, readable name of a callable or an object for parameters and keys."""
    module = getattr(value, "__module__", None)
    qualified = getattr(value, "__qualname__", None)
    if module and qualified:
        return f"{module}.{qualified}"
    if isinstance(value, functools.partial):
        return f"partial({named(value.func)}, {value.args}, {value.keywords})"
    return type(value).__name__


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) or type(value) is tuple else value


def _parts(value: Any) -> dict[str, Any] | None:
    if is_settings(value):
        return {name: getattr(value, name) for name in field_names(value)}
    if isinstance(value, list | tuple):
        return {str(index): item for index, item in enumerate(value)}
    if isinstance(value, Mapping):
        parts = {str(key): item for key, item in value.items()}
        if "class_name" in parts and isinstance(parts.get("config"), Mapping):  # a Keras object inside another one's config
            parts["config"] = _without_count(parts["config"], str(parts["class_name"]))
        return parts
    if _has_config(value):
        return _without_count(value.get_config(), type(value).__name__)
    return None


def _without_count(config: Mapping[str, Any], class_name: str) -> dict[str, Any]:
    """A Keras config without the name that Keras gave by counting (`mean_3`): of equal objects each has another one."""
    stem = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name.rpartition(">")[2]))
    stem = re.sub("([a-z])([A-Z])", r"\1_\2", stem).lower()
    counted = re.fullmatch(rf"{re.escape(stem)}(_\d+)?", str(config.get("name"))) is not None
    return {name: part for name, part in config.items() if not (counted and name == "name")}


def _has_config(value: Any) -> bool:
    # What saves weights is a model: a leaf, whose config is neither settings nor cheap to read.
    return hasattr(value, "get_config") and hasattr(type(value), "from_config") and not hasattr(value, "save_weights")


def _rebuild(value: Any, changes: dict[str, Any]) -> Any:
    if is_settings(value):
        return dataclasses.replace(value, **changes)
    if isinstance(value, list | tuple):
        return tuple(changes.get(str(index), item) for index, item in enumerate(value))
    if isinstance(value, Mapping):
        return {key: changes.get(str(key), item) for key, item in value.items()}
    return type(value).from_config({**value.get_config(), **changes})


def _walk(name: str, value: Any, leaf: Leaf | None, depth: int) -> Iterator[tuple[str, Any]]:
    text = leaf(value) if leaf is not None and not isinstance(value, SCALARS) else None
    if text is not None or isinstance(value, SCALARS):
        yield name, value if text is None else text
        return
    parts = _parts(value) if depth < 8 else None
    if parts is None:
        yield name, named(value) if callable(value) else _scalar(value)
        return
    if name and not isinstance(value, list | tuple | Mapping):
        yield name, type(value).__name__
    if name and not parts and isinstance(value, list | tuple | Mapping):
        yield name, "()"
    for part, item in parts.items():
        yield from _walk(f"{name}__{part}" if name else part, item, leaf, depth + 1)


def _scalar(value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "size", None) == 1:
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return named(value)
