"""One functional graph over the same inputs for several models."""

from collections.abc import Callable, Sequence, Set
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.members import Member, clean_name, inputs_of
from kdfuse.ensemble.values import Logits, Probabilities

SCALES = {"probabilities": Probabilities, "logits": Logits}


def inputs_for(models: Sequence[keras.Model], data: Data) -> Any:
    """New inputs of a graph that feeds every one of `models`, in the structure of the inputs of `data`.

    Sizes are those of the first model with a graph, else those of the rows of `data`. So are dtypes; where those of the models differ,
    it is one that holds what any of them takes.
    """
    every = [given for given in map(inputs_of, models) if given is not None and _same(given, data.example(1))]
    if every:
        return keras.tree.map_structure(lambda *x: keras.Input(x[0].shape[1:], dtype=_widest(x), name=clean_name(x[0].name)), *every)
    return keras.tree.map_structure(
        lambda shape, rows: keras.Input(shape, dtype=np.asarray(rows).dtype.name), _shapes(data), data.example(1)
    )


def outputs_of(members: Sequence[Member], inputs: Any, scale: str | None = None) -> list[list[Any]]:
    """For each output the tensors of all members, in the order of `keras.tree.flatten` of a member's outputs.

    Args:
        members: of one ensemble.
        inputs: of the new graph.
        scale: `"probabilities"`, `"logits"`, or None for what the members give.
    """
    names = {member.model.name for member in members}
    columns = []
    for member in members:
        leaves = keras.tree.flatten(member.model(inputs))
        heads = [member.head] * len(leaves) if isinstance(member.head, str) else keras.tree.flatten(member.head)
        if scale is not None:
            leaves = [_scaled(scale, head, names)(leaf) for leaf, head in zip(leaves, heads, strict=True)]
        columns.append(leaves)
    return [list(column) for column in zip(*columns, strict=True)]


def join(members: Sequence[Member], data: Data, combine: Callable[[int], Any], *, scale: str | None, name: str) -> keras.Model:
    """One functional model that runs every member on the same inputs and combines what they give.

    Args:
        members: of one ensemble; the graph holds their models, not copies.
        data: for the inputs.
        combine: gives for the number of an output the callable (a combiner) that takes the list of the members' tensors.
        scale: what the members' outputs are brought to first: `"probabilities"`, `"logits"` or None.
        name: of the model.

    Returns:
        A model with the output structure of the members.
    """
    inputs = inputs_for([member.model for member in members], data)
    combined = [combine(place)(tensors) for place, tensors in enumerate(outputs_of(members, inputs, scale))]
    structure = members[0].outputs
    outputs = keras.tree.pack_sequence_as(structure, combined) if keras.tree.is_nested(structure) else combined[0]
    return keras.Model(inputs, outputs, name=name)


def _scaled(scale: str, head: str, taken: Set[str]) -> keras.Layer:
    """A layer whose name, which Keras counts, no member has."""
    layer = SCALES[scale](head)
    while layer.name in taken:
        layer = SCALES[scale](head)
    return layer


def _widest(tensors: Sequence[Any]) -> str:
    """The dtype of inputs; where they differ one that holds what each of them takes, of text that of the first."""
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors]
    if len(set(dtypes)) == 1 or "string" in dtypes:
        return dtypes[0]
    least = ["float32"] if any("float" in dtype for dtype in dtypes) else []
    return str(keras.backend.result_type(*dtypes, *least))


def _same(given: Any, rows: Any) -> bool:
    try:
        keras.tree.assert_same_structure(given, rows)
    except (ValueError, TypeError):
        return False
    return True


def _shapes(data: Data) -> Any:
    """The input shapes as leaves, in the structure of the inputs."""
    return keras.tree.map_structure(lambda rows: _Shape(np.shape(rows)[1:]), data.example(1))


class _Shape(tuple):  # a leaf for keras.tree, which looks into plain tuples
    pass
