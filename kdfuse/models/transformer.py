"""Transformer encoder for text and other sequences."""

from typing import Any

import keras

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.attention import encoder_block, normalize_layer, plain_kernel
from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.blocks.sequence import as_steps, embed, named, pool_steps, present
from kdfuse.models.builder import builder
from kdfuse.models.checks import depth, integer, option, per_layer, positive, rate
from kdfuse.models.heads import finish
from kdfuse.models.inputs import single_input
from kdfuse.models.tokens import token_count

POOLING = ("average", "max", "cls")
POSITIONS = ("learned", None)


@builder
def transformer(
    data: Any,
    *,
    layers: int | None = None,
    heads: int | tuple[int, ...] = 4,
    width: int = 64,
    feed_forward: int | tuple[int, ...] | None = None,
    positions: str | None = "learned",
    embedding: int | None = None,
    vocabulary: int | None = None,
    activation: str = "gelu",
    negative_slope: float | None = None,
    threshold: float = 0.0,
    max_value: float | None = None,
    pooling: str = "average",
    dropout: float = 0.0,
    kernel_initializer: str = "auto",
    head: str | tuple[str, ...] = "auto",
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """The encoder of a transformer for `data`: token ids `(t,)`, or sequences `(t, features)`, `(t, features, channels)` or `(t,)`.

    Integer inputs `(t,)` are token ids and get an embedding; 0 is padding, which attention and pooling leave out. All other inputs
    are read step by step along the first axis, each step flattened. Each step is projected to the width and its position is added;
    then come blocks of self-attention and feed-forward layers, a layer normalization, and one head for each output. It is made of
    plain Keras layers and operations, so that its file loads without kdfuse.

    Args:
        data: says `input_shape`, `task` and `classes`, as `kdfuse.Data` does. One input.
        layers: number of blocks; as many as the tuples among the next settings have, or 2, if not given.
        heads: of attention in each block, or one number for all. A divisor of the width.
        width: of each step between the blocks.
        feed_forward: width of the hidden dense layer of each block, or one number for all; four times `width` if not given.
        positions: "learned", a vector for each position, which needs data of one length; or `None`: the order is not seen.
        embedding: width of the vectors of tokens before the projection; `width` if not given. For token ids alone.
        vocabulary: number of token ids; the largest of the training rows plus one if not given. For token ids alone.
        activation: of the feed-forward layers: relu, leaky_relu, prelu, elu, selu, gelu, silu (swish), mish, softplus, softsign,
            sigmoid, tanh or linear.
        negative_slope: slope of relu (0 if not given) or leaky_relu (0.2) below zero; where prelu (0.25) starts. At least 0.
        threshold: below it relu is `negative_slope * (x - threshold)`. At least 0.
        max_value: the limit of relu; `None` for none. Above `threshold`.
        pooling: what goes to the head: the "average" or "max" over the steps that are no padding, or "cls", a learnt step that is
            put before the others.
        dropout: share of the projected steps, of the results of both parts of each block and of the head's inputs dropped in
            training. From 0 to below 1.
        kernel_initializer: of the hidden layers. "auto": glorot_uniform; for the layers with activation the one that fits it, he_normal
            for gelu and the relu family. The embedding is uniform, positions are normal, the head's kernel is glorot_uniform.
        head: "auto" (logits for classification, sigmoid for binary and multilabel, linear for regression), "logits", "softmax",
            "sigmoid" or "regression", or a tuple with one for each output.
        seed: of the weights and of dropout. The same seed gives the same weights, in any process.
        name: of the model; "transformer" if not given.

    Raises:
        ValueError: a setting out of range, settings that do not fit each other or the data, ids below 0, rows of padding alone.
        TypeError: an unknown setting; the message names the near ones.

    Reference: Vaswani et al. 2017, arXiv 1706.03762; learnt positions and a step for the class, Devlin et al. 2018, arXiv
    1810.04805; normalization before each part, Xiong et al. 2020, arXiv 2002.04745; embeddings narrower than the blocks, Lan et al.
    2019, arXiv 1909.11942.
    """
    count = integer("layers", depth("layers", layers, 2, heads=heads, feed_forward=feed_forward), low=1)
    width = positive("width", width)
    heads_of = per_layer("heads", heads, count, positive)
    for each in heads_of:
        if width % each:
            raise ValueError(f"`heads`: expected divisors of the width, {width}. Received: heads={heads!r}. Give for example heads=1.")
    hidden = per_layer("feed_forward", 4 * width if feed_forward is None else feed_forward, count, positive)
    option("positions", positions, POSITIONS)
    narrow = None if embedding is None else positive("embedding", embedding)
    option("pooling", pooling, POOLING)
    share = rate("dropout", dropout)
    pieces = Pieces(Activation(activation, negative_slope, threshold, max_value), kernel_initializer, seed)
    tokens = token_count(data, vocabulary, narrow)
    inputs, x = single_input("transformer", data.input_shape, None if tokens is None else "int32")
    mask = None
    if tokens is not None:
        # Any id but padding makes the step of the class be read.
        ids = named(keras.ops.pad(x, ((0, 0), (1, 0)), constant_values=1), "ids_and_cls") if pooling == "cls" else x
        mask = present(ids)
        x = embed(x, tokens, narrow or width, pieces)
    else:
        x = as_steps(x)
    if pooling == "cls":
        # Zeros, which the projection turns into its bias: the learnt vector of this position.
        x = keras.layers.ZeroPadding1D((1, 0), data_format="channels_last", name="cls")(x)
    x = pieces.dropout(_project(x, width, positions, pieces), share, "dropout")
    for index in range(1, count + 1):
        x = encoder_block(x, heads_of[index - 1], hidden[index - 1], index, pieces=pieces, dropout=share, mask=mask)
    x = normalize_layer(x, "norm")
    x = pool_steps(x, mask, "first" if pooling == "cls" else pooling)
    x = pieces.dropout(x, share, "head_dropout")
    return finish(inputs, x, data, head=head, pieces=pieces, name=name or "transformer")


def _project(x: Any, width: int, positions: str | None, pieces: Pieces) -> Any:
    """The steps at the width of the blocks; a learnt position is a bias of its own for each step."""
    kernel = pieces.initializer("projection", plain_kernel(pieces))
    if positions is None:
        return keras.layers.Dense(width, kernel_initializer=kernel, name="projection")(x)
    length = x.shape[1]
    if length is None:
        raise ValueError(
            "`positions`: 'learned' needs data of one length. Received: input_shape=(None, ...). Pad the data, or use positions=None."
        )
    return keras.layers.EinsumDense(
        "bte,ed->btd",
        output_shape=(length, width),
        bias_axes="td",
        kernel_initializer=kernel,
        bias_initializer=pieces.initializer("positions", "random_normal"),
        name="projection",
    )(x)
