"""Members of an ensemble: private copies with names of their own, whose outputs mean the same."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.ensemble.values import head_of_probabilities
from kdfuse.graph.copy import copy_model
from kdfuse.graph.heads import detect_head


@dataclasses.dataclass(frozen=True)
class Member:
    """A model in an ensemble.

    Attributes:
        model: a copy that belongs to the ensemble, under a name that no other member has.
        head: what its outputs are, in their structure.
        outputs: what it gives for a few rows.
    """

    model: keras.Model
    head: Any
    outputs: Any = dataclasses.field(repr=False)


def check_members(owner: str, models: Sequence[keras.Model], data: Data, least: int = 2) -> None:
    """Raise unless `models` can be members of one ensemble.

    Args:
        owner: the technique, for the errors.
        models: what was given.
        data: whose inputs all must take.
        least: how many there must be.

    Raises:
        ValueError: too few, inputs that do not fit, outputs of different structures, shapes or meanings.
    """
    if len(models) < least:
        raise ValueError(f"`model` of {owner}: expected {least} or more models, such as [a, b]. Received: {len(models)}.")
    example = data.example(4)
    first: Any = None
    for place, model in enumerate(models):
        try:
            outputs = model(example, training=False)
        except Exception as error:  # Keras raises many kinds here
            raise ValueError(
                f"`model` of {owner}: member {place + 1} ({model.name!r}) cannot take the inputs of `data`, of shape {data.input_shape}. "
                f"The error was: {str(error).strip().splitlines()[0]}"
            ) from error
        mark = _mark(outputs, detect_head(model, data.task, example))
        first = mark if place == 0 else first
        if mark[0] != first[0]:
            raise ValueError(
                f"`model` of {owner}: expected members with equal outputs. Member 1 ({models[0].name!r}) gives {first[0]}, "
                f"member {place + 1} ({model.name!r}) gives {mark[0]}. Give models of the same labels."
            )
        if mark[1] != first[1]:
            raise ValueError(
                f"`model` of {owner}: expected members whose outputs mean the same. Member 1 ({models[0].name!r}) has the head {first[1]}, "
                f"member {place + 1} ({model.name!r}) has {mark[1]}. Give models of the same task."
            )


def take(models: Sequence[keras.Model], data: Data) -> list[Member]:
    """Private copies of `models`, renamed where two have the same name, or one that of an input or output.

    Args:
        models: any Keras 3 models that `check_members` lets pass; they are only read.
        data: for the inputs, and for the task that tells a head.
    """
    example = data.example(4)
    names = _names_of_ends(models)
    members = []
    for model in models:
        copy = copy_model(model, example)
        copy.name = free_name(model.name, names)
        members.append(Member(copy, detect_head(model, data.task, example), model(example, training=False)))
    return members


def flat_heads(member: Member) -> list[str]:
    """For each output what its probabilities are: `softmax`, `sigmoid` or `regression`."""
    leaves = keras.tree.flatten(member.outputs)
    heads = [member.head] * len(leaves) if isinstance(member.head, str) else keras.tree.flatten(member.head)
    return [head_of_probabilities(head, leaf.shape[-1]) for head, leaf in zip(heads, leaves, strict=True)]


def free_name(name: str, taken: set[str]) -> str:
    """`name`, or `name_2`, `name_3` ... where it is taken; it is added to `taken`."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found


def clean_name(name: str) -> str:
    """The name of a tensor as that of a layer."""
    return name.split(":")[0].replace("/", "_")


def inputs_of(model: keras.Model) -> Any:
    """The symbolic inputs of a model in their structure, None of one without a graph."""
    return getattr(model, "input", None) if getattr(model, "_functional", True) is not None else None


def output_names(member: Member) -> list[str]:
    """A name for each output, as layers of an ensemble may have it: what the member calls them, where these are names that differ."""
    leaves = keras.tree.flatten(member.outputs)
    if len(leaves) == 1:
        return ["combined"]
    if isinstance(member.outputs, dict):
        found = [str(key) for key in sorted(member.outputs)]
    else:
        found = [str(name) for name in getattr(member.model, "output_names", None) or []]
    fit = len(set(found)) == len(leaves) and not any("/" in name for name in found)
    return found if fit else [f"combined_{place + 1}" for place in range(len(leaves))]


def kept_names(member: Member, names: Sequence[str | None]) -> list[Any]:
    """Names for the layers that an ensemble ends with: the member's own where it gives several outputs in a list, for labels go by them.

    Args:
        member: whose outputs the ensemble's are like.
        names: for other outputs.
    """
    several = isinstance(member.outputs, list | tuple) and len(member.outputs) > 1
    return output_names(member) if several else list(names)


def named(outputs: Any, member: Member) -> Any:
    """Outputs of one layer under the names that `kept_names` gives."""
    flat = keras.tree.flatten(outputs)
    names = kept_names(member, ())
    return keras.tree.pack_sequence_as(outputs, [keras.layers.Identity(dtype=leaf.dtype, name=name)(leaf)
                                                 for leaf, name in zip(flat, names, strict=True)]) if names else outputs  # fmt: skip


def _names_of_ends(models: Sequence[keras.Model]) -> set[str]:
    """Names of the inputs and outputs, which those of an ensemble keep."""
    found = {"combined"}
    for model in models:
        found |= {clean_name(tensor.name) for tensor in keras.tree.flatten(inputs_of(model)) if tensor is not None}
        outputs = getattr(model, "output_names", None) or []
        if len(outputs) > 1:
            structure = getattr(model, "output", None)
            found |= {*outputs, *(structure if isinstance(structure, dict) else ()), *(f"combined_{at + 1}" for at in range(len(outputs)))}
    return found


def _mark(outputs: Any, head: Any) -> tuple[Any, Any]:
    """Shapes of the outputs without rows, and what they mean as probabilities: logits and a softmax are alike."""
    shapes = keras.tree.map_structure(lambda leaf: tuple(leaf.shape[1:]), outputs)
    leaves = keras.tree.flatten(outputs)
    heads = [head] * len(leaves) if isinstance(head, str) else keras.tree.flatten(head)
    return shapes, [head_of_probabilities(one, leaf.shape[-1]) for one, leaf in zip(heads, leaves, strict=True)]
