"""The blocks of a transformer."""

import math
from typing import Any

import keras

from kdfuse.models.blocks.pieces import Pieces


def encoder_block(x: Any, heads: int, feed_forward: int, index: int, *, pieces: Pieces, dropout: float = 0.0, mask: Any = None) -> Any:
    """`y = x + attention(norm(x))`, then `y + feed_forward(norm(y))`.

    The feed-forward part is a dense layer with activation and one without, the same at each step.

    Args:
        x: `[batch, steps, width]`.
        heads: of attention, each `width / heads` wide.
        feed_forward: width of the hidden dense layer.
        index: number of the block, from 1, which ends its layers' names.
        pieces: makes the layers.
        dropout: share of the results of both parts dropped in training, before they are added.
        mask: `[batch, steps]` booleans: the steps that attention may read. None for all.

    Returns:
        `[batch, steps, width]`, not normalised.

    Reference: Vaswani et al. 2017, arXiv 1706.03762; with the normalization before each part, Xiong et al. 2020, arXiv 2002.04745.
    """
    layers, width, name = keras.layers, x.shape[-1], f"attention_{index}"
    plain = plain_kernel(pieces)
    y = normalize_layer(x, f"attention_norm_{index}")
    attention = layers.MultiHeadAttention(
        heads, width // heads, kernel_initializer=pieces.initializer(name, plain), seed=pieces.seed_of(name), name=name
    )
    y = attention(y, y, value_mask=mask)
    _draw_kernels(attention, name, plain, pieces)
    x = layers.Add(name=f"attention_add_{index}")([x, pieces.dropout(y, dropout, f"attention_dropout_{index}")])
    y = normalize_layer(x, f"dense_norm_{index}")
    y = layers.Dense(feed_forward, kernel_initializer=pieces.initializer(f"dense_{index}"), name=f"dense_{index}")(y)
    y = pieces.activate(y, f"activation_{index}")
    name = f"dense_out_{index}"
    y = layers.Dense(width, kernel_initializer=pieces.initializer(name, plain), name=name)(y)
    return layers.Add(name=f"dense_add_{index}")([x, pieces.dropout(y, dropout, f"dense_dropout_{index}")])


def normalize_layer(x: Any, name: str) -> Any:
    """Layer normalization over the last axis."""
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def plain_kernel(pieces: Pieces) -> str | None:
    """The kind of initializer of a layer without activation: None for what the settings say, glorot_uniform if they say "auto"."""
    return "glorot_uniform" if pieces.kernel_initializer == "auto" else None


def _draw_kernels(attention: keras.layers.MultiHeadAttention, name: str, kind: str | None, pieces: Pieces) -> None:
    """Draw each of the four kernels by its own name: from one seed the layer would draw equal ones, and query would be key."""
    for weight in attention.weights:
        part, what = weight.path.split("/")[-2:]
        if what == "kernel":
            shape = tuple(weight.shape)
            # As the matrix that it is: [width, heads * size], or [heads * size, width] at the output.
            matrix = (math.prod(shape[:-1]), shape[-1]) if part == "attention_output" else (shape[0], math.prod(shape[1:]))
            weight.assign(keras.ops.reshape(pieces.initializer(f"{name}_{part}", kind)(matrix), shape))
