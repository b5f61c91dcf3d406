"""Convolutional network for images and for sequences."""

from typing import Any

import keras

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.convolution import GLOBAL_POOLING, POOLING, Convolutions, add_channels, check_kernel
from kdfuse.models.blocks.dense import dense_block
from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.blocks.sequence import embed
from kdfuse.models.builder import builder
from kdfuse.models.checks import depth, flag, integer, option, per_layer, positive, rate
from kdfuse.models.heads import finish
from kdfuse.models.inputs import single_input
from kdfuse.models.tokens import token_count


@builder
def convnet(
    data: Any,
    *,
    layers: int | None = None,
    filters: int | tuple[int, ...] = 32,
    kernel_size: int | tuple[int, ...] = 3,
    strides: int | tuple[int, ...] = 1,
    pooling: str | None = "max",
    pool_size: int | tuple[int, ...] = 2,
    activation: str = "relu",
    negative_slope: float | None = None,
    threshold: float = 0.0,
    max_value: float | None = None,
    batch_norm: bool = False,
    skip: bool = False,
    global_pooling: str = "flatten",
    units: int | tuple[int, ...] = (64,),
    dropout: float = 0.0,
    kernel_initializer: str = "auto",
    head: str | tuple[str, ...] = "auto",
    dimensions: int | None = None,
    embedding: int | None = None,
    vocabulary: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """A convolutional network for `data`: images `(h, w, c)` or `(h, w)`, sequences `(t, c)` or `(t,)`, or token ids `(t,)`.

    Integer inputs `(t,)` are token ids and get an embedding; padding, the id 0, is a token like the others here.
    Each convolution keeps the size (zero padding) and is followed by batch normalization, activation, skip and pooling, where asked
    for. Then come dense layers and one head for each output. It is made of plain Keras layers, so that its file loads without kdfuse.

    Args:
        data: says `input_shape`, `task` and `classes`, as `kdfuse.Data` does. One input.
        layers: number of convolutions; as many as the tuples among the next settings have, or 2, if not given.
        filters: channels of each convolution, or one number for all.
        kernel_size: side of each kernel; at most the smallest side of the data.
        strides: step of each convolution.
        pooling: "max", "average" or `None`.
        pool_size: side of the windows pooled after each convolution; 1 for no pooling there. Windows do not overlap.
        activation: of the hidden layers: relu, leaky_relu, prelu, elu, selu, gelu, silu (swish), mish, softplus, softsign, sigmoid,
            tanh or linear.
        negative_slope: slope of relu (0 if not given) or leaky_relu (0.2) below zero; where prelu (0.25) starts. At least 0.
        threshold: below it relu is `negative_slope * (x - threshold)`. At least 0.
        max_value: the limit of relu; `None` for none. Above `threshold`.
        batch_norm: batch normalization before every activation, in place of that layer's bias.
        skip: adds each convolution's input to its activated output, before pooling; through a 1x1 convolution without bias where
            the shapes differ. The dense layers have none.
        global_pooling: what comes before the dense layers: "flatten", or the "average" or "max" of each channel.
        units: widths of the dense layers before the head, or the width of a single one. `()` for none.
        dropout: share of the inputs of every dense layer, the head's among them, dropped in training. From 0 to below 1.
        kernel_initializer: of the hidden layers. "auto": he_normal for the relu family, lecun_normal for selu, glorot_uniform for
            sigmoid, tanh, softsign and linear. The head's is glorot_uniform.
        head: "auto" (logits for classification, sigmoid for binary and multilabel, linear for regression), "logits", "softmax",
            "sigmoid" or "regression", or a tuple with one for each output.
        dimensions: 2 for images, 1 for sequences. `None` decides by the shape: two axes are an image without channels if they are
            equal, else a sequence with channels.
        embedding: width of the vectors of tokens, 64 if not given. For token ids alone.
        vocabulary: number of token ids; the largest of the training rows plus one if not given. For token ids alone.
        seed: of the weights and of dropout. The same seed gives the same weights, in any process.
        name: of the model; "convnet" if not given.

    Raises:
        ValueError: a setting out of range, settings that do not fit each other or the size of the data.
        TypeError: an unknown setting; the message names the near ones.
    """
    count = depth("layers", layers, 2, filters=filters, kernel_size=kernel_size, strides=strides, pool_size=pool_size)
    integer("layers", count, low=1)
    channels = per_layer("filters", filters, count, positive)
    kernels = per_layer("kernel_size", kernel_size, count, positive)
    steps = per_layer("strides", strides, count, positive)
    windows = per_layer("pool_size", pool_size, count, positive)
    widths = per_layer("units", units, len(units) if isinstance(units, tuple | list) else 1, positive)
    kind = option("pooling", pooling, POOLING)
    option("global_pooling", global_pooling, GLOBAL_POOLING)
    share = rate("dropout", dropout)
    batch_norm, skip = flag("batch_norm", batch_norm), flag("skip", skip)
    pieces = Pieces(Activation(activation, negative_slope, threshold, max_value), kernel_initializer, seed)
    wide = None if embedding is None else positive("embedding", embedding)
    tokens = token_count(data, vocabulary, wide)
    inputs, x = single_input("convnet", data.input_shape, None if tokens is None else "int32")
    if tokens is not None:
        x = embed(x, tokens, wide or 64, pieces)
        dimensions = _one_dimension(dimensions)
    x, dimensions = add_channels(x, dimensions)
    convolutions = Convolutions(dimensions, pieces)
    for kernel in kernels:
        check_kernel(kernel, x)
    for index in range(1, count + 1):
        before, step = x, steps[index - 1]
        x = convolutions.convolve(x, channels[index - 1], kernels[index - 1], f"conv_{index}", strides=step, bias=not batch_norm)
        if batch_norm:
            x = pieces.normalize(x, f"conv_batch_norm_{index}")
        x = pieces.activate(x, f"conv_activation_{index}")
        if skip:
            shortcut = convolutions.shortcut(before, x, f"conv_skip_{index}", strides=step, bias=False)
            x = keras.layers.Add(name=f"conv_add_{index}")([x, shortcut])
        if kind is not None and windows[index - 1] > 1:
            _check_pooling(x, windows[index - 1], index)
            x = convolutions.pool(x, kind, windows[index - 1], f"pool_{index}")
    x = convolutions.pool_all(x, global_pooling)
    for index, width in enumerate(widths, start=1):
        x = dense_block(pieces.dropout(x, share, f"dropout_{index}"), width, index, pieces=pieces, batch_norm=batch_norm)
    x = pieces.dropout(x, share, f"dropout_{len(widths) + 1}")
    return finish(inputs, x, data, head=head, pieces=pieces, name=name or "convnet")


def _one_dimension(dimensions: int | None) -> int:
    if dimensions not in (None, 1):
        raise ValueError(f"`dimensions`: expected 1 or None for token ids. Received: dimensions={dimensions!r}. Leave it out.")
    return 1


def _check_pooling(x: Any, window: int, index: int) -> None:
    sizes = tuple(x.shape[1:-1])
    if any(size is not None and size < window for size in sizes):
        raise ValueError(
            f"`pooling`: layer {index} would pool windows of {window} out of a map of size {'x'.join(map(str, sizes))}. Received: "
            f"pool_size={window}. Give fewer layers than {index}, pool_size=1 for some of them, smaller strides, or pooling=None."
        )
