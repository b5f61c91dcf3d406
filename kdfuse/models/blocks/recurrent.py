"""The recurrent layers of a model."""

from typing import Any

import keras

from kdfuse.models.activations import ACTIVATIONS
from kdfuse.models.blocks.pieces import Pieces

CELLS = ("gru", "lstm", "rnn")
CELL_ACTIVATIONS = tuple(name for name in ACTIVATIONS if name != "prelu")


def recurrent_layer(
    x: Any,
    units: int,
    index: int,
    *,
    pieces: Pieces,
    cell: str,
    bidirectional: bool,
    sequences: bool,
    mask: Any = None,
) -> Any:
    """A recurrent layer over steps, forwards or both ways.

    Args:
        x: `[batch, steps, features]`.
        units: width of the state of each direction.
        index: its number, from 1, which ends its layers' names.
        pieces: makes the layers; its activation is that of the cell.
        cell: one of `CELLS`.
        bidirectional: a second layer with weights of its own reads from the end; the two results are joined.
        sequences: give the state after each step, else after the last.
        mask: `[batch, steps]` booleans; steps without are skipped. None if all are there.

    Returns:
        `[batch, steps, units]` or `[batch, units]`, twice as wide if bidirectional.

    Reference: Cho et al. 2014, arXiv 1406.1078 (GRU); Hochreiter and Schmidhuber 1997 (LSTM); Schuster and Paliwal 1997
    (bidirectional).
    """

    def one(name: str, backwards: bool = False) -> keras.layers.RNN:
        layer = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM, "rnn": keras.layers.SimpleRNN}[cell]
        return layer(
            units,
            activation=pieces.activation.name,
            kernel_initializer=pieces.initializer(name),
            recurrent_initializer=pieces.initializer(f"{name}_recurrent", "orthogonal"),
            return_sequences=sequences,
            go_backwards=backwards,
            seed=pieces.seed_of(name),
            name=name,
        )

    name = f"{cell}_{index}"
    layer: Any = one(name)
    if bidirectional:
        # Left to itself, the wrapper would give both directions the same seed and so the same weights.
        layer = keras.layers.Bidirectional(layer, backward_layer=one(f"backward_{name}", backwards=True), name=f"bidirectional_{index}")
    return layer(x, mask=mask)
