"""Arrays, and nested dicts and tuples of them: conversion to NumPy, checks, fingerprint."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Structure = Any
"""An array, or a dict or tuple of structures."""


def map_leaves(function: Callable[..., Any], structure: Structure, *others: Structure) -> Structure:
    """Apply `function` to every leaf, and to the leaves at the same places of `others`."""
    if isinstance(structure, Mapping):
        return {key: map_leaves(function, value, *(other[key] for other in others)) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return tuple(map_leaves(function, *values) for values in zip(structure, *others, strict=True))
    return function(structure, *others)


def leaves(structure: Structure, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its place as text: `("x['image']", array)`."""
    if isinstance(structure, Mapping):
        for key, value in structure.items():
            yield from leaves(value, f"{name}[{key!r}]")
    elif isinstance(structure, list | tuple):
        for index, value in enumerate(structure):
            yield from leaves(value, f"{name}[{index}]")
    else:
        yield name, structure


def same_structure(one: Structure, other: Structure) -> bool:
    """Whether both have leaves at the same places."""
    return sorted(place for place, _ in leaves(one)) == sorted(place for place, _ in leaves(other))


def in_order(structure: Structure, names: Sequence[str]) -> Structure:
    """What goes by name as a tuple in the order of the names; anything else as it is."""
    return tuple(structure[name] for name in names) if isinstance(structure, Mapping) else structure


def to_arrays(value: Any, where: str, *, text: bool = False) -> Structure:
    """Read-only NumPy arrays for NumPy, pandas, TensorFlow, JAX and PyTorch arrays, lists of numbers, dicts and tuples of these.

    Integers, booleans, float16 and float32 stay as they are; float64 and bfloat16 become float32. A list or tuple of arrays is
    several inputs (or outputs), as in Keras, and becomes a tuple.

    Args:
        value: what the user gave.
        where: how errors name it, for example "`train` x".
        text: whether strings are allowed.

    Raises:
        ValueError: it holds something that is no array of numbers.
    """
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"{where}: expected at least one array. Received: an empty dict. Give one array for each input.")
        return {str(key): to_arrays(item, f"{where}[{key!r}]", text=text) for key, item in value.items()}
    if isinstance(value, list | tuple) and not _numbers(value):
        return tuple(to_arrays(item, f"{where}[{index}]", text=text) for index, item in enumerate(value))
    return _array(value, where, text)


def check_rows(structure: Structure, where: str) -> int:
    """The number of rows that all arrays share.

    Raises:
        ValueError: there are none, or they differ.
    """
    counts = {place: len(array) for place, array in leaves(structure, where)}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{place}: {count}" for place, count in list(counts.items())[:6])
        raise ValueError(
            f"{where}: expected the same number of rows everywhere. Received: {listed}. "
            "Drop the rows that have no partner; a list of arrays means several inputs, so use `numpy.stack` if it is one input."
        )
    rows = next(iter(counts.values()))
    if not rows:
        raise ValueError(f"{where}: expected at least one row. Received: an empty array. Leave the split out (None) or give it rows.")
    return rows


def check_finite(structure: Structure, where: str) -> None:
    """Raise `ValueError` where a value is NaN or infinite; the message says which row."""
    for place, array in leaves(structure, where):
        # min and max carry NaN and infinity along without a second array of the same size.
        if array.dtype.kind == "f" and array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            bad = np.argwhere(~np.isfinite(array))
            raise ValueError(
                f"{place}: expected finite values. Received: {array[tuple(bad[0])]} in row {bad[0][0]} and {len(bad) - 1} more such "
                "values (after conversion to float32). Remove those rows or fill them in."
            )


def fingerprint(structure: Structure) -> str:
    """SHA-256 (hex) over the places, dtypes, shapes and bytes of the arrays."""
    digest = hashlib.sha256()
    for place, array in sorted(leaves(structure), key=lambda pair: pair[0]):
        digest.update(f"{place}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def _numbers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return not value or _numbers(value[0])
    return isinstance(value, bool | int | float | complex | str | bytes | np.generic) or value is None


def _array(value: Any, where: str, text: bool) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{where}: expected an array without masked values. Received: a masked array. Fill it in with `.filled(...)`.")
    if hasattr(value, "detach"):  # PyTorch refuses conversion while the tensor takes part in gradients.
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{where}: expected an array. Received: {type(value).__name__} ({error}). Convert it with `numpy.asarray`."
        ) from None
    if text and array.dtype.kind == "O" and all(isinstance(item, str | bytes) for item in array.flat):
        array = array.astype("S" if any(isinstance(item, bytes) for item in array.flat) else "U")
    kind = array.dtype.kind
    if array.dtype.name == "bfloat16" or (kind == "f" and array.dtype.itemsize > 4):
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    elif kind not in ("biuf" + ("US" if text else "")):
        mend = "Convert it to numbers first, for example `.astype('float32')`; rows of unequal length need padding."
        raise ValueError(f"{where}: expected an array of numbers. Received: {type(value).__name__} with dtype {array.dtype}. {mend}")
    if array.ndim == 0:
        raise ValueError(f"{where}: expected an array with a row for each sample. Received: the single value {array}. Wrap it in a list.")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    view = array.view()
    view.flags.writeable = False
    return view
