"""What builders for sequences share: embedding, steps, padding, pooling over steps."""

from typing import Any

import keras

from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.tokens import PADDING

NOWHERE = -3e4
"""Below every value that matters, and within float16."""


def embed(ids: Any, count: int, width: int, pieces: Pieces) -> Any:
    """A learnt vector for each token.

    Args:
        ids: `[batch, steps]` integers from 0 to below `count`.
        count: number of ids.
        width: of the vectors.
        pieces: makes the layers.

    Returns:
        `[batch, steps, width]`. Padding has a vector too and no mask: what reads the steps gets `present` besides.
    """
    return keras.layers.Embedding(count, width, pieces.initializer("embedding", "random_uniform"), name="embedding")(ids)


def present(ids: Any) -> Any:
    """`[batch, steps]` booleans: whether a token stands there rather than padding."""
    return named(keras.ops.not_equal(ids, PADDING), "present")


def as_steps(x: Any) -> Any:
    """`[batch, steps, features]` from `[batch, steps]` (one feature) or `[batch, steps, ...]`.

    Raises:
        ValueError: a step has an unknown size, or there are no steps.
    """
    shape = tuple(x.shape[1:])
    if not shape or None in shape[1:]:
        raise ValueError(f"`data`: expected a sequence (t,), (t, features) or (t, features, channels). Received: input_shape={shape}.")
    if len(shape) == 2:
        return x
    features = 1
    for size in shape[1:]:
        features *= size
    return keras.layers.Reshape((-1 if shape[0] is None else shape[0], features), name="steps")(x)


def pool_steps(x: Any, mask: Any, kind: str) -> Any:
    """The "average" or "max" of each feature over the steps that are present, or the "first" step.

    Args:
        x: `[batch, steps, features]`.
        mask: `[batch, steps]` booleans, or None if all are present.
        kind: "average", "max" or "first".

    Returns:
        `[batch, features]`.
    """
    if kind == "first":
        return named(keras.ops.take(x, 0, axis=1), "first_step")
    layers = keras.layers
    if kind == "average":
        return layers.GlobalAveragePooling1D(data_format="channels_last", name="pooling")(x, mask=mask)
    if mask is not None:
        there = named(keras.ops.expand_dims(mask, -1), "present_features")
        x = named(keras.ops.where(there, x, keras.ops.cast(NOWHERE, x.dtype)), "present_steps")
    return layers.GlobalMaxPooling1D(data_format="channels_last", name="pooling")(x)


def named(tensor: Any, name: str) -> Any:
    """`tensor`, which an operation of `keras.ops` has made, after that operation got a name.

    By itself an operation gets a number that counts up with every model, so equal models would differ in their files.
    """
    tensor._keras_history.operation.name = name
    return tensor
