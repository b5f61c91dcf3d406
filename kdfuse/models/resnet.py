"""Residual network for small images and for sequences."""

from typing import Any

import keras

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.convolution import GLOBAL_POOLING, Convolutions, add_channels, check_kernel
from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.blocks.residual import residual_block
from kdfuse.models.builder import builder
from kdfuse.models.checks import depth, flag, integer, option, per_layer, positive, rate
from kdfuse.models.heads import finish
from kdfuse.models.inputs import single_input


@builder
def resnet(
    data: Any,
    *,
    blocks: int | tuple[int, ...] = (1, 1, 1),
    stages: int | None = None,
    filters: int | tuple[int, ...] = 16,
    kernel_size: int = 3,
    activation: str = "relu",
    negative_slope: float | None = None,
    threshold: float = 0.0,
    max_value: float | None = None,
    batch_norm: bool = True,
    bottleneck: bool = False,
    global_pooling: str = "average",
    dropout: float = 0.0,
    kernel_initializer: str = "auto",
    head: str | tuple[str, ...] = "auto",
    dimensions: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """The residual network of He et al. 2016 for small images `(h, w, c)` or `(h, w)`, or sequences `(t, c)` or `(t,)`.

    One convolution, then stages of residual blocks (two convolutions, or a bottleneck of three); every stage after the first halves
    the size and doubles the filters. `blocks=3` gives the paper's ResNet-20, `blocks=9` its ResNet-56, but with projections where
    the shape changes (the paper's option B) in place of padded identities. It is made of plain Keras layers, so that its file
    loads without kdfuse.

    Args:
        data: says `input_shape`, `task` and `classes`, as `kdfuse.Data` does. One input.
        blocks: residual blocks of each stage, or one number for all stages.
        stages: number of stages if `blocks` is one number (3 if not given); else `None` or as many as `blocks` has.
        filters: filters of the first stage, doubled in every further one, or one number for each stage. A bottleneck gives out
            four times as many.
        kernel_size: side of the kernels; at most the smallest side of the data.
        activation: relu, leaky_relu, prelu, elu, selu, gelu, silu (swish), mish, softplus, softsign, sigmoid, tanh or linear.
        negative_slope: slope of relu (0 if not given) or leaky_relu (0.2) below zero; where prelu (0.25) starts. At least 0.
        threshold: below it relu is `negative_slope * (x - threshold)`. At least 0.
        max_value: the limit of relu; `None` for none. Above `threshold`.
        batch_norm: batch normalization after every convolution, in place of its bias.
        bottleneck: blocks of a 1x1, a full and a 1x1 convolution; the full one has the strides.
        global_pooling: what comes before the head: the "average" or "max" of each channel, or "flatten".
        dropout: share of the head's inputs dropped in training. From 0 to below 1.
        kernel_initializer: of the convolutions. "auto": he_normal for the relu family, lecun_normal for selu, glorot_uniform for
            sigmoid, tanh, softsign and linear. The head's is glorot_uniform.
        head: "auto" (logits for classification, sigmoid for binary and multilabel, linear for regression), "logits", "softmax",
            "sigmoid" or "regression", or a tuple with one for each output.
        dimensions: 2 for images, 1 for sequences. `None` decides by the shape: two axes are an image without channels if they are
            equal, else a sequence with channels.
        seed: of the weights and of dropout. The same seed gives the same weights, in any process.
        name: of the model; "resnet" if not given.

    Raises:
        ValueError: a setting out of range, settings that do not fit each other or the size of the data.
        TypeError: an unknown setting; the message names the near ones.

    Reference: He et al. 2016, Deep Residual Learning for Image Recognition (arXiv 1512.03385), section 4.2.
    """
    count = integer("stages", depth("stages", stages, 3, blocks=blocks), low=1)
    lengths = per_layer("blocks", blocks, count, positive)
    widths = per_layer("filters", filters, count, positive)
    if not isinstance(filters, tuple | list):
        widths = tuple(width * 2**stage for stage, width in enumerate(widths))
    kernel = positive("kernel_size", kernel_size)
    option("global_pooling", global_pooling, GLOBAL_POOLING)
    share = rate("dropout", dropout)
    batch_norm, bottleneck = flag("batch_norm", batch_norm), flag("bottleneck", bottleneck)
    pieces = Pieces(Activation(activation, negative_slope, threshold, max_value), kernel_initializer, seed)
    inputs, x = single_input("resnet", data.input_shape)
    x, dimensions = add_channels(x, dimensions)
    check_kernel(kernel, x)
    convolutions = Convolutions(dimensions, pieces)
    x = convolutions.convolve(x, widths[0], kernel, "conv", bias=not batch_norm)
    if batch_norm:
        x = pieces.normalize(x, "batch_norm")
    x = pieces.activate(x, "activation")
    for stage, (length, width) in enumerate(zip(lengths, widths, strict=True), start=1):
        for block in range(1, length + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            if strides == 2:
                _check_halving(x, stage)
            where = f"stage_{stage}_block_{block}"
            x = residual_block(
                x, width, kernel, where, strides=strides, convolutions=convolutions, batch_norm=batch_norm, bottleneck=bottleneck
            )
    x = pieces.dropout(convolutions.pool_all(x, global_pooling), share, "dropout")
    return finish(inputs, x, data, head=head, pieces=pieces, name=name or "resnet")


def _check_halving(x: Any, stage: int) -> None:
    sizes = [size for size in x.shape[1:-1] if size is not None]
    if sizes and max(sizes) == 1:
        raise ValueError(
            f"`blocks`: stage {stage} would halve a map of size 1. Received: {stage} stages or more. Give at most {stage - 1}."
        )
