"""Convolutions over images and over sequences behind one face."""

from dataclasses import dataclass
from typing import Any

import keras

from kdfuse.models.blocks.pieces import Pieces

LAST: dict[str, Any] = {"data_format": "channels_last"}
GLOBAL_POOLING = ("flatten", "average", "max")
POOLING = ("max", "average", None)


@dataclass(frozen=True)
class Convolutions:
    """Makes the layers that know how many dimensions the data has. All are channels last, whatever Keras's default is.

    Args:
        dimensions: 1 for sequences `[batch, steps, channels]`, 2 for images `[batch, height, width, channels]`.
        pieces: seeds and initializers.
    """

    dimensions: int
    pieces: Pieces

    def convolve(self, x: Any, filters: int, kernel_size: int, name: str, *, strides: int = 1, bias: bool = True) -> Any:
        """A convolution with zero padding that keeps the size, divided by the strides and rounded up."""
        layer = self._of("Conv")
        settings = {"padding": "same", "use_bias": bias, "kernel_initializer": self.pieces.initializer(name), "name": name}
        return layer(filters, kernel_size, strides=strides, **settings, **LAST)(x)

    def shortcut(self, x: Any, like: Any, name: str, *, strides: int = 1, bias: bool = True) -> Any:
        """`x` itself if it has the shape of `like`, else a 1x1 projection to it."""
        if strides == 1 and x.shape[-1] == like.shape[-1]:
            return x
        return self.convolve(x, like.shape[-1], 1, name, strides=strides, bias=bias)

    def pool(self, x: Any, kind: str, size: int, name: str) -> Any:
        """Pooling "max" or "average" over windows that do not overlap; the rest at the border is left out."""
        return self._of("MaxPooling" if kind == "max" else "AveragePooling")(size, name=name, **LAST)(x)

    def pool_all(self, x: Any, kind: str) -> Any:
        """The features of the whole map: "flatten" for all of it, or the "average" or "max" of each channel."""
        if kind == "flatten":
            if None in x.shape[1:]:
                raise ValueError(
                    f"`global_pooling`: 'flatten' needs data of one size. Received: data whose sizes before it are {x.shape[1:]}. "
                    f"Use global_pooling='average' or 'max'."
                )
            return keras.layers.Flatten(name="flatten", **LAST)(x)
        return self._of("GlobalAveragePooling" if kind == "average" else "GlobalMaxPooling")(name="global_pooling", **LAST)(x)

    def _of(self, kind: str) -> Any:
        return getattr(keras.layers, f"{kind}{self.dimensions}D")


def add_channels(x: Any, dimensions: int | None) -> tuple[Any, int]:
    """`x` with an axis of channels, and how many dimensions it has without batch and channels.

    Args:
        x: `[batch, h, w, c]`, `[batch, h, w]`, `[batch, t, c]` or `[batch, t]`.
        dimensions: 1 for a sequence, 2 for an image. `None` decides by the shape: two axes of equal size are an image without
            channels, two axes of different sizes are a sequence with channels.

    Raises:
        ValueError: a shape that is neither, or whose channels are not known.
    """
    shape = tuple(x.shape[1:])
    if dimensions not in (None, 1, 2):
        raise ValueError(f"`dimensions`: expected 1 (sequences), 2 (images) or None. Received: dimensions={dimensions!r}.")
    if dimensions is None:
        dimensions = 2 if len(shape) == 3 or (len(shape) == 2 and shape[0] == shape[1]) else 1
    if len(shape) not in (dimensions, dimensions + 1):
        kinds = "images (h, w, c) or (h, w), or sequences (t, c) or (t,)"
        raise ValueError(
            f"`data`: expected {kinds}. Received: input_shape={shape} with dimensions={dimensions}. Reshape the data, or use "
            f"kdfuse.models.mlp for plain features."
        )
    if len(shape) == dimensions:
        # One -1 is all that Reshape can work out by itself.
        if shape.count(None) > 1:
            raise ValueError(f"`data`: expected an axis of channels for images of unknown size. Received: input_shape={shape}.")
        x = keras.layers.Reshape((*(-1 if size is None else size for size in shape), 1), name="channels")(x)
    elif shape[-1] is None:
        raise ValueError(f"`data`: expected a known number of channels. Received: input_shape={shape}.")
    return x, dimensions


def check_kernel(kernel_size: int, x: Any) -> None:
    """Refuse a kernel larger than the map `x` that comes into the model: its border would never see data."""
    sizes = [size for size in x.shape[1:-1] if size is not None]
    if sizes and kernel_size > min(sizes):
        raise ValueError(
            f"`kernel_size`: expected at most {min(sizes)}, the smallest side of the data's {tuple(x.shape[1:-1])}. Received: "
            f"kernel_size={kernel_size}. Give a smaller kernel_size."
        )
