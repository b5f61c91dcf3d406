"""The hidden dense layers of a model."""

from typing import Any

import keras

from kdfuse.models.blocks.pieces import Pieces


def dense_block(
    x: Any,
    units: int,
    index: int,
    *,
    pieces: Pieces,
    dropout: float = 0.0,
    batch_norm: bool = False,
    skip: bool = False,
    max_norm: float | None = None,
) -> Any:
    """Dense, batch normalization, activation, skip and dropout, each but the first and third where asked for.

    Args:
        x: `[batch, features]`.
        units: width of the layer.
        index: its number, from 1, which ends its layers' names.
        pieces: makes the layers.
        dropout: share of the result dropped in training.
        batch_norm: normalizes before the activation; the dense layer then has no bias, which would be cancelled.
        skip: adds the input to the activated result, through a dense projection without bias where the widths differ.
        max_norm: limit of the norm of the weights that come into a unit.

    Returns:
        `[batch, units]`.
    """
    name = f"dense_{index}"
    y = keras.layers.Dense(
        units,
        use_bias=not batch_norm,
        kernel_initializer=pieces.initializer(name),
        kernel_constraint=None if max_norm is None else keras.constraints.MaxNorm(max_norm, axis=0),
        name=name,
    )(x)
    if batch_norm:
        y = pieces.normalize(y, f"batch_norm_{index}")
    y = pieces.activate(y, f"activation_{index}")
    if skip:
        if x.shape[-1] != units:
            name = f"skip_{index}"
            x = keras.layers.Dense(units, use_bias=False, kernel_initializer=pieces.initializer(name, "glorot_uniform"), name=name)(x)
        y = keras.layers.Add(name=f"add_{index}")([y, x])
    return pieces.dropout(y, dropout, f"dropout_{index}")
