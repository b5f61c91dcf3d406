"""The inputs of a model, from the shapes that its data has."""

import numbers
from collections.abc import Mapping
from typing import Any

import keras


def make_inputs(input_shape: Any, dtype: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Input tensors in the structure of `input_shape`.

    Args:
        input_shape: a shape without the batch, or tuples and dicts of shapes.
        dtype: of the tensors; None for Keras's default.

    Returns:
        The structure of `keras.Input`s for the model, and the same tensors by name: "input" for a single one, else the
        keys of the dicts and "input_1", "input_2" for the positions of tuples.

    Raises:
        ValueError: no shape, or one with a size below 1.
    """
    tensors: dict[str, Any] = {}
    structure = _walk("", input_shape, tensors, dtype)
    if not tensors:
        raise ValueError(f"`data`: expected data with an input. Received: input_shape={input_shape!r}.")
    return structure, tensors


def single_input(builder: str, input_shape: Any, dtype: str | None = None) -> tuple[Any, Any]:
    """As `make_inputs`, for builders that read one input. Returns the structure and its one tensor."""
    structure, tensors = make_inputs(input_shape, dtype)
    if len(tensors) > 1:
        raise ValueError(
            f"`data`: expected one input for {builder}. Received: {len(tensors)}, {list(tensors)}. Give data with one of them, use "
            f"kdfuse.models.mlp, which joins several inputs, or build a keras.Model of your own."
        )
    return structure, next(iter(tensors.values()))


def is_shape(value: Any) -> bool:
    """Whether `value` is one shape rather than a structure of shapes."""
    return isinstance(value, tuple | list) and all(size is None or isinstance(size, numbers.Integral) for size in value)


def layer_name(key: Any) -> str:
    """The name of a layer for the input or output called `key`; Keras allows no slash in it."""
    return str(key).replace("/", "_")


def _walk(name: str, value: Any, tensors: dict[str, Any], dtype: str | None) -> Any:
    if is_shape(value):
        if any(size is not None and size < 1 for size in value):
            raise ValueError(f"`data`: expected sizes of at least 1. Received: input_shape={tuple(value)}.")
        name = layer_name(name or "input")
        while name in tensors:
            name += "_input"
        tensors[name] = keras.Input(tuple(None if size is None else int(size) for size in value), dtype=dtype, name=name)
        return tensors[name]
    if isinstance(value, Mapping):
        return {key: _walk(f"{name}_{key}" if name else str(key), item, tensors, dtype) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_walk(f"{name or 'input'}_{index}", item, tensors, dtype) for index, item in enumerate(value, start=1))
    raise ValueError(f"`data`: expected a shape, or tuples and dicts of shapes. Received: input_shape={value!r}.")
