"""Checks of the structure settings of builders. Each returns a plain Python value, which a saved file can hold."""

import math
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

from kdfuse.settings import choose

V = TypeVar("V")


def integer(argument: str, value: Any, *, low: int) -> int:
    """`value` as an int of at least `low`, else `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        raise ValueError(f"`{argument}`: expected an integer of at least {low}. Received: {argument}={value!r}.")
    return int(value)


def number(argument: str, value: Any, *, low: float = 0.0, above: bool = False) -> float:
    """`value` as a finite float of at least `low` (of more than `low` if `above`), else `ValueError`."""
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or value < low or (above and value == low):
        raise ValueError(f"`{argument}`: expected a number {'above' if above else 'of at least'} {low:g}. Received: {argument}={value!r}.")
    return float(value)


def rate(argument: str, value: Any) -> float:
    """`value` as a share to drop, from 0 to below 1, else `ValueError`."""
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not fits or not 0 <= value < 1:
        raise ValueError(f"`{argument}`: expected a share from 0 to below 1. Received: {argument}={value!r}.")
    return float(value)


def flag(argument: str, value: Any) -> bool:
    """`value` as a bool, else `ValueError`."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise ValueError(f"`{argument}`: expected True or False. Received: {argument}={value!r}.")
    return bool(value)


def option(argument: str, value: Any, known: tuple[str | None, ...]) -> str | None:
    """`value` if it is among `known`, else `ValueError` naming the near ones."""
    if value is None and None in known:
        return None
    names = [name for name in known if name is not None]
    if not isinstance(value, str):
        raise ValueError(f"`{argument}`: expected one of {list(known)}. Received: {argument}={value!r}.")
    return choose(argument, value, names)


def depth(argument: str, value: Any, default: int, **per_layer_settings: Any) -> int:
    """The number of layers that `argument` or the lengths of the tuples among the settings say.

    Args:
        argument: name of the setting that counts layers.
        value: what it holds; `None` leaves it to the tuples.
        default: the count if nothing says one.
        **per_layer_settings: settings that may hold one value for each layer.

    Raises:
        ValueError: they say different numbers.
    """
    lengths = {name: len(given) for name, given in per_layer_settings.items() if isinstance(given, tuple | list)}
    count = next(iter(lengths.values()), default) if value is None else integer(argument, value, low=0)
    for name, length in lengths.items():
        if length != count:
            first = next(iter(lengths))
            source = f"{argument}={value}" if value is not None else f"{first}={per_layer_settings[first]!r}"
            raise ValueError(
                f"`{name}`: expected {count} values, as {source} says. Received: {name}={per_layer_settings[name]!r}, {length} values. "
                f"Give a single number for all layers, or as many values as layers."
            )
    return count


def per_layer(argument: str, value: Any, count: int, check: Callable[[str, Any], V]) -> tuple[V, ...]:
    """`value` for each of `count` layers, checked: one value for all of them, or a tuple with one for each."""
    if not isinstance(value, tuple | list):
        return (check(argument, value),) * count
    if len(value) != count:
        raise ValueError(
            f"`{argument}`: expected one value for all layers or {count}, one for each. "
            f"Received: {argument}={value!r}, {len(value)} values."
        )
    return tuple(check(f"{argument}[{index}]", item) for index, item in enumerate(value))


def positive(argument: str, value: Any) -> int:
    """`value` as an int of at least 1, else `ValueError`."""
    return integer(argument, value, low=1)
