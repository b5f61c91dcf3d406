"""The residual blocks of He et al. 2016."""

from typing import Any

import keras

from kdfuse.models.blocks.convolution import Convolutions

EXPANSION = 4


def residual_block(
    x: Any,
    filters: int,
    kernel_size: int,
    name: str,
    *,
    strides: int,
    convolutions: Convolutions,
    batch_norm: bool,
    bottleneck: bool,
) -> Any:
    """`activation(convolutions(x) + shortcut(x))`, the activation also between the convolutions.

    The shortcut is the identity where the shape stays, else a 1x1 convolution with the block's strides.

    Args:
        x: `[batch, ..., channels]`.
        filters: of the full convolutions.
        kernel_size: of the full convolutions.
        name: how the names of the block's layers begin.
        strides: of the block.
        convolutions: makes the layers.
        batch_norm: normalizes after each convolution, the shortcut's too, in place of its bias.
        bottleneck: a 1x1, a full and a 1x1 convolution to four times the filters, in place of two full ones.

    Returns:
        `[batch, ... / strides, filters]`, with four times the filters for a bottleneck.

    Reference: He et al. 2016 (arXiv 1512.03385), figure 5.
    """
    pieces = convolutions.pieces
    full = (filters, kernel_size)
    # The strides are on the full convolution of a bottleneck: on the 1x1, as first published, three quarters of the map are not read.
    parts = [(filters, 1, 1), (*full, strides), (filters * EXPANSION, 1, 1)] if bottleneck else [(*full, strides), (*full, 1)]
    y = x
    for index, (channels, kernel, steps) in enumerate(parts, start=1):
        y = convolutions.convolve(y, channels, kernel, f"{name}_conv_{index}", strides=steps, bias=not batch_norm)
        if batch_norm:
            y = pieces.normalize(y, f"{name}_batch_norm_{index}")
        if index < len(parts):
            y = pieces.activate(y, f"{name}_activation_{index}")
    shortcut = convolutions.shortcut(x, y, f"{name}_skip", strides=strides, bias=not batch_norm)
    if batch_norm and shortcut is not x:
        shortcut = pieces.normalize(shortcut, f"{name}_skip_batch_norm")
    y = keras.layers.Add(name=f"{name}_add")([y, shortcut])
    return pieces.activate(y, f"{name}_activation_{len(parts)}")
