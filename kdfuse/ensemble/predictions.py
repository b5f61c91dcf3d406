"""What all members give for the rows of a split, in one pass of one graph."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kdfuse.data import Data
from kdfuse.ensemble.joined import inputs_for, outputs_of
from kdfuse.ensemble.masks import common_mask
from kdfuse.ensemble.members import Member
from kdfuse.ensemble.values import head_of_probabilities
from kdfuse.measure.measure import parts_of
from kdfuse.measure.predict import one_pass
from kdfuse.splits import Split


class Predicted(NamedTuple):
    """One output of all members on the rows of a split.

    Attributes:
        label: the name of the output, empty for a single one.
        values: `[members, rows, ..., classes]`.
        targets: what the labels are.
        weights: sample weights (masked steps have 0), or None.
        task: of the output.
        head: `"softmax"`, `"sigmoid"` or `"regression"`.
    """

    label: str
    values: np.ndarray
    targets: np.ndarray
    weights: Any
    task: str
    head: str


def predictions(members: Sequence[Member], data: Data, split: Split, scale: str | None = "probabilities") -> list[Predicted]:
    """The predictions of all members on a split, one entry for each output.

    Args:
        members: of one ensemble.
        data: for the inputs and the tasks.
        split: the rows; a stream is read once.
        scale: `"probabilities"`, `"logits"`, or None for what the members give.
    """
    inputs = inputs_for([member.model for member in members], data)
    stacked = [Stacked()(column) for column in outputs_of(members, inputs, scale)]
    structure = members[0].model(inputs)
    nested = keras.tree.is_nested(structure)
    outputs = keras.tree.pack_sequence_as(structure, stacked) if nested else stacked[0]
    done = one_pass(keras.Model(inputs, outputs), split)
    found = []
    for part in parts_of(members[0].model, done, data, members[0].head):
        values = np.moveaxis(part.values, 1, 0)
        head = head_of_probabilities(part.head, values.shape[-1])
        targets = in_one_column(part.targets, values.shape[1:], head)
        found.append(Predicted(part.label, values, targets, part.weights, part.task, head))
    return found


def in_one_column(targets: Any, shape: tuple[int, ...], head: str) -> np.ndarray:
    """One-hot rows of no and yes as one column of zeros and ones, where predictions have one; other targets as they are.

    Args:
        targets: of one output.
        shape: of its predictions `[rows, ..., columns]`.
        head: `"softmax"`, `"sigmoid"` or `"regression"`.
    """
    given = np.asarray(targets)
    both = head == "sigmoid" and shape[-1] == 1 and given.shape == (*shape[:-1], 2)
    return given.argmax(axis=-1)[..., None] if both else given


class Stacked(keras.layers.Layer):
    """The tensors of all members `[rows, ...]` as one `[rows, members, ...]`, in float32."""

    def call(self, members: Sequence[Any]) -> Any:
        return ops.stack([ops.cast(one, "float32") for one in members], axis=1)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return common_mask(previous_mask)  # [rows, steps], as one member has it: it becomes weights of the steps

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0][0], len(input_shape), *input_shape[0][1:])
