"""Marks a function as a builder of models."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import keras

from kdfuse.settings import unknown

P = ParamSpec("P")

NEEDED = ("input_shape", "task", "classes")


def builder(function: Callable[P, keras.Model]) -> Callable[P, keras.Model]:
    """Make `function(data, *, ...)` check its data and the names of its settings.

    The signature stays readable by `inspect.signature`: searches look there for the settings of a builder.

    Args:
        function: takes `data` first and keyword-only settings.

    Returns:
        The same builder. A setting that it does not have raises `TypeError` naming the near ones; `data` without
        `input_shape`, `task` or `classes` raises `ValueError`.
    """
    known = setting_names(function)

    @functools.wraps(function)
    def build(*args: P.args, **settings: P.kwargs) -> keras.Model:
        for name in settings:
            if name != "data" and name not in known:
                raise TypeError(unknown(function.__name__, name, known))
        for data in args[:1] or [settings[name] for name in ("data",) if name in settings]:
            _check_data(data)
        return function(*args, **settings)

    return build


def setting_names(build: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the settings of a builder: its keyword-only arguments."""
    parameters = inspect.signature(build).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY)


def _check_data(data: Any) -> None:
    missing = [name for name in NEEDED if not hasattr(data, name)]
    if missing:
        raise ValueError(
            f"`data`: expected an object with {', '.join(NEEDED)}, such as kdfuse.Data. Received: {type(data).__name__}, which has "
            f"no {', '.join(missing)}. Wrap arrays as kdfuse.Data(train=(x, y))."
        )
