"""What a model over the members sees: their predictions side by side, and the inputs where these pass through."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from kdfuse.arrays import leaves
from kdfuse.data import Data
from kdfuse.ensemble.joined import inputs_for, outputs_of
from kdfuse.ensemble.members import Member, flat_heads
from kdfuse.ensemble.mixed.side_by_side import SideBySide
from kdfuse.ensemble.predictions import in_one_column
from kdfuse.measure.measure import Part, parts_of
from kdfuse.measure.predict import Pass

SCALED = {"softmax": "logits", "sigmoid": "sigmoid_logits", "regression": "regression"}


class Features(NamedTuple):
    """A graph from the inputs of `data` to the features of a model over the members.

    Attributes:
        inputs: in the structure of the inputs of `data`.
        features: `[rows, columns]`: for each member its outputs one by one, then the inputs where they pass through.
    """

    inputs: Any
    features: Any

    @property
    def model(self) -> keras.Model:
        """From rows to features."""
        return keras.Model(self.inputs, self.features, name="features")


def features_of(members: Sequence[Member], data: Data, scale: str, passthrough: bool) -> Features:
    """The graph that runs all members and puts what they give side by side.

    Args:
        members: of one ensemble; the graph holds their models.
        data: for the inputs.
        scale: `"probabilities"` or `"logits"`; of a regression its values.
        passthrough: whether the inputs come after the predictions.
    """
    inputs = inputs_for([member.model for member in members], data)
    columns = [tensor for member in zip(*outputs_of(members, inputs, scale), strict=True) for tensor in member]
    given = keras.tree.flatten(inputs) if passthrough else []
    return Features(inputs, SideBySide(name="side_by_side")([*columns, *given]))


def parts_in(features: np.ndarray, targets: Any, weights: Any, members: Sequence[Member], data: Data, scale: str) -> list[list[Part]]:
    """For each member its outputs, each with what it is judged by, from rows of features.

    Args:
        features: `[rows, columns]` as `features_of` gives them.
        targets: of these rows, in the structure of the labels.
        weights: sample weights, or None.
        members: of one ensemble.
        data: for the tasks.
        scale: of the features.
    """
    heads = flat_heads(members[0])
    sizes = [leaf.shape[-1] for leaf in keras.tree.flatten(members[0].outputs)]
    pieces = np.split(features, np.cumsum(sizes * len(members)), axis=1)
    structure, found = members[0].outputs, []
    for place, member in enumerate(members):
        own = pieces[place * len(sizes) : (place + 1) * len(sizes)]
        outputs = keras.tree.pack_sequence_as(structure, own) if keras.tree.is_nested(structure) else own[0]
        done = Pass(outputs, targets, weights, [None] * len(sizes), "")
        parts = parts_of(member.model, done, data, member.head)
        judged = [
            part._replace(targets=in_one_column(part.targets, part.values.shape, head)) for part, head in zip(parts, heads, strict=True)
        ]
        found.append([part._replace(head=SCALED[head] if scale == "logits" else head) for part, head in zip(judged, heads, strict=True)])
    return found


def check_one_a_row(owner: str, member: Member) -> None:
    """Raise unless a member gives one prediction a row."""
    for leaf in keras.tree.flatten(member.outputs):
        if len(leaf.shape) != 2:
            raise ValueError(
                f"`model` of {owner}: expected outputs of shape (rows, columns), one prediction a row. Received: {leaf.shape}."
            )


def check_flat(argument: str, data: Data, mend: str) -> None:
    """Raise unless the inputs are numbers of fixed sizes, so that a row of them is a vector."""
    shapes = dict(leaves(data.input_shape, "x"))  # shapes are tuples, and their sizes are the leaves
    open_axes = sorted({place for place, size in shapes.items() if size is None})
    kinds = {np.asarray(rows).dtype.kind for _, rows in leaves(data.example(1))}
    if open_axes or not kinds <= set("fiub"):
        received = f"open sizes of {open_axes}" if open_axes else "text"
        raise ValueError(f"`{argument}`: expected inputs that are numbers, of a fixed size. Received: {received}. {mend}")
