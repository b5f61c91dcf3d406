"""Bringing features of one shape to another: sizes by averaging, channels by a trained linear map."""

from typing import Any

import keras
import numpy as np

Tensor = Any
Shape = tuple[int | None, ...]


def matched_shapes(teacher: Shape, student: Shape) -> tuple[Shape, Shape]:
    """The shapes that `matching` gives.

    Args:
        teacher: of the features, the batch axis first and the channels last.
        student: likewise.

    Returns:
        Two shapes that differ in their channels at most.

    Raises:
        ValueError: features without channels.
    """
    for name, shape in (("teacher", teacher), ("student", student)):
        if len(shape) < 2 or shape[-1] is None:
            raise ValueError(f"The {name}'s features need a batch axis and channels of a known number. Received: the shape {shape}.")
    if len(teacher) != len(student):
        return (teacher[0], teacher[-1]), (student[0], student[-1])
    sizes = tuple(None if a is None or b is None else min(a, b) for a, b in zip(teacher[1:-1], student[1:-1], strict=True))
    return (teacher[0], *sizes, teacher[-1]), (student[0], *sizes, student[-1])


def matching(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """Features of equal sizes: each axis between batch and channels at the smaller of its two sizes.

    Where a size is a multiple of the other, blocks are averaged; else the features are interpolated (linearly, with
    antialiasing). Features of different ranks are averaged over all these axes. An axis of unknown size is taken to
    be the same in both.

    Args:
        teacher: `[batch, ..., channels]`.
        student: likewise.

    Returns:
        Both, channels as they were.
    """
    own, other = matched_shapes(tuple(teacher.shape), tuple(student.shape))
    return _resized(teacher, own), _resized(student, other)


def projector(shape: Shape, channels: int | None, name: str, seed: int) -> keras.Layer:
    """A built linear map of the last axis, float32: on images a convolution of 1x1.

    Args:
        shape: of its inputs, the batch axis first.
        channels: of its outputs.
        name: of the layer.
        seed: of its first weights.
    """
    layer = keras.layers.Dense(channels, kernel_initializer=keras.initializers.GlorotUniform(seed), dtype="float32", name=name)
    layer.build(shape)
    return layer


def _resized(features: Tensor, shape: Shape) -> Tensor:
    if len(shape) < len(features.shape):
        return keras.ops.mean(features, axis=tuple(range(1, len(features.shape) - 1)))
    for axis, size in enumerate(shape[1:-1], start=1):
        given = features.shape[axis]
        if size is not None and given is not None and given != size:
            features = _blocks(features, axis, size) if given % size == 0 else _interpolated(features, axis, size)
    return features


def _blocks(features: Tensor, axis: int, size: int) -> Tensor:
    """The mean over blocks of equal length along an axis."""
    shape = list(keras.ops.shape(features))
    shape[axis : axis + 1] = [size, features.shape[axis] // size]
    return keras.ops.mean(keras.ops.reshape(features, shape), axis=axis + 1)


def _interpolated(features: Tensor, axis: int, size: int) -> Tensor:
    """An axis at a smaller size: means weighted by triangles as wide as the step from one to the next, so that every value counts.

    A product with a constant, for XLA has no `ops.image.resize` with antialiasing, and GPUs neither.
    """
    given = features.shape[axis]
    places = (np.arange(size) + 0.5) * given / size - 0.5
    weights = np.maximum(0, 1 - np.abs(places - np.arange(given)[:, None]) * size / given)
    weights = (weights / weights.sum(axis=0)).astype("float32")
    return keras.ops.moveaxis(keras.ops.tensordot(features, weights, axes=[[axis], [0]]), -1, axis)
