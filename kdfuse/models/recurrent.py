"""Recurrent network for text and other sequences."""

from typing import Any

import keras

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.blocks.recurrent import CELL_ACTIVATIONS, CELLS, recurrent_layer
from kdfuse.models.blocks.sequence import as_steps, embed, pool_steps, present
from kdfuse.models.builder import builder
from kdfuse.models.checks import depth, flag, integer, option, per_layer, positive, rate
from kdfuse.models.heads import finish
from kdfuse.models.inputs import single_input
from kdfuse.models.tokens import token_count

POOLING = ("last", "average", "max")


@builder
def recurrent(
    data: Any,
    *,
    units: int | tuple[int, ...] = 64,
    layers: int | None = None,
    cell: str = "gru",
    bidirectional: bool = True,
    embedding: int | None = None,
    vocabulary: int | None = None,
    activation: str = "tanh",
    pooling: str = "last",
    dropout: float = 0.0,
    kernel_initializer: str = "auto",
    head: str | tuple[str, ...] = "auto",
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """A recurrent network for `data`: token ids `(t,)`, or sequences `(t, features)`, `(t, features, channels)` or `(t,)`.

    Integer inputs `(t,)` are token ids and get an embedding; 0 is padding, which the layers skip. All other inputs are read step by
    step along the first axis, each step flattened. Then come the recurrent layers and one head for each output. It is made of plain
    Keras layers and operations, so that its file loads without kdfuse.

    Args:
        data: says `input_shape`, `task` and `classes`, as `kdfuse.Data` does. One input.
        units: width of the state of each recurrent layer (of each direction), or one width for all.
        layers: number of recurrent layers if `units` is one width (1 if not given); else `None` or as many as `units` has.
        cell: "gru", "lstm" or "rnn" (the simple recurrent layer).
        bidirectional: every layer reads both ways, with weights of their own; the two states are joined.
        embedding: width of the vectors of tokens (64 if not given); for other inputs, of a dense layer without activation before
            the first recurrent one (none if not given).
        vocabulary: number of token ids; the largest of the training rows plus one if not given. For token ids alone.
        activation: of the cells: relu, leaky_relu, elu, selu, gelu, silu (swish), mish, softplus, softsign, sigmoid, tanh or linear,
            as Keras has them by name. Any but tanh runs slower on a GPU.
        pooling: what goes to the head: the "last" state (of both directions), or the "average" or "max" of the states over the
            steps that are no padding.
        dropout: share of the inputs of every recurrent layer and of the head dropped in training. From 0 to below 1.
        kernel_initializer: of the kernels. "auto": the one that fits the activation, glorot_uniform for tanh. The recurrent kernels
            are orthogonal, the embedding is uniform, the head's kernel is glorot_uniform.
        head: "auto" (logits for classification, sigmoid for binary and multilabel, linear for regression), "logits", "softmax",
            "sigmoid" or "regression", or a tuple with one for each output.
        seed: of the weights and of dropout. The same seed gives the same weights, in any process.
        name: of the model; "recurrent" if not given.

    Raises:
        ValueError: a setting out of range, settings that do not fit each other or the data, ids below 0, rows of padding alone.
        TypeError: an unknown setting; the message names the near ones.
    """
    count = integer("layers", depth("layers", layers, 1, units=units), low=1)
    widths = per_layer("units", units, count, positive)
    kind = option("cell", cell, CELLS)
    both = flag("bidirectional", bidirectional)
    width = None if embedding is None else positive("embedding", embedding)
    option("activation", activation, CELL_ACTIVATIONS)
    option("pooling", pooling, POOLING)
    share = rate("dropout", dropout)
    pieces = Pieces(Activation(activation), kernel_initializer, seed)
    tokens = token_count(data, vocabulary)
    inputs, x = single_input("recurrent", data.input_shape, None if tokens is None else "int32")
    mask = None
    if tokens is not None:
        mask = present(x)
        x = embed(x, tokens, width or 64, pieces)
    else:
        x = as_steps(x)
        if width is not None:
            made = pieces.initializer("projection", "glorot_uniform")
            x = keras.layers.Dense(width, kernel_initializer=made, name="projection")(x)
    for index, units_here in enumerate(widths, start=1):
        x = pieces.dropout(x, share, f"dropout_{index}")
        sequences = index < count or pooling != "last"
        x = recurrent_layer(x, units_here, index, pieces=pieces, cell=str(kind), bidirectional=both, sequences=sequences, mask=mask)
    if pooling != "last":
        x = pool_steps(x, mask, pooling)
    x = pieces.dropout(x, share, f"dropout_{count + 1}")
    return finish(inputs, x, data, head=head, pieces=pieces, name=name or "recurrent")
