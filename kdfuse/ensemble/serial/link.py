"""Two links of a chain as one graph: a model, and the next one, which gets what it says."""

from typing import Any, NamedTuple

import keras

from kdfuse.data import Data
from kdfuse.ensemble.joined import inputs_for
from kdfuse.ensemble.members import Member, kept_names, take
from kdfuse.ensemble.mixed.gating import Inference
from kdfuse.ensemble.serial.adding import Adding
from kdfuse.ensemble.values import Logits, Probabilities
from kdfuse.graph.copy import copy_model


class Stage(NamedTuple):
    """A model of a chain, and the data it is trained on."""

    model: keras.Model
    data: Data


def linked(before: Stage, stage: Stage, number: int, frozen: bool = False) -> keras.Model:
    """One graph of a chain so far and the next model, which gets what the chain says.

    Args:
        before: the chain so far, with the data of its last stage, which tell what its outputs are.
        stage: the next model; both models are copied.
        number: of the next stage. In the graph the copies are called `before_2` and `model_2`.
        frozen: whether the chain so far stays as it is and runs in inference mode while the graph is trained.

    Raises:
        ValueError: the model cannot take what the chain says.
    """
    earlier = take([before.model], before.data)[0]
    earlier.model.name = f"before_{number}"
    inputs = inputs_for([earlier.model], stage.data)
    run: Any = earlier.model
    if frozen:
        earlier.model.trainable = False
        run = Inference(earlier.model, name=earlier.model.name)
    said = [
        Probabilities(head, name=f"said_{number}_{place}")(leaf)
        for place, (leaf, head) in enumerate(zip(keras.tree.flatten(run(inputs)), _flat_heads(earlier), strict=True))
    ]
    if takes_more(stage.model, stage.data):
        given = _with(inputs, said, stage.model)
        copy = copy_model(stage.model)
        copy.name = f"model_{number}"
        return keras.Model(inputs, copy(given), name=f"stage_{number}")
    member = take([stage.model], stage.data)[0]
    member.model.name = f"model_{number}"
    leaves, heads = keras.tree.flatten(member.model(inputs)), _flat_heads(member)
    ends = kept_names(member, [f"answers_{number}_{place}" for place in range(len(leaves))])
    outputs = [
        _added(leaf, head, heard, f"{number}_{place}", ends[place], stage.model)
        for place, (leaf, head, heard) in enumerate(zip(leaves, heads, _heard(said, earlier, member, number), strict=True))
    ]
    nested = keras.tree.is_nested(member.outputs)
    return keras.Model(inputs, keras.tree.pack_sequence_as(member.outputs, outputs) if nested else outputs[0], name=f"stage_{number}")


def takes_more(model: Any, data: Data) -> bool:
    """Whether a model has one input more than the data."""
    if not isinstance(model, keras.Model) or getattr(model, "_functional", True) is None or not getattr(model, "inputs", None):
        return False
    return len(model.inputs) == len(keras.tree.flatten(data.example(1))) + 1


def _with(inputs: Any, said: list[Any], model: keras.Model) -> Any:
    """The inputs of a model that takes the predictions too."""
    own = model.input
    names = [name for name in own if name not in inputs] if isinstance(own, dict) and isinstance(inputs, dict) else []
    wanted = tuple((own[names[0]] if len(names) == 1 else model.inputs[-1]).shape[1:])
    if len(said) != 1 or tuple(said[0].shape[1:]) != wanted:
        shapes = [tuple(one.shape[1:]) for one in said]
        which = f"input {names[0]!r}" if len(names) == 1 else "last input"
        raise ValueError(
            f"`model` of Chained: expected the {which} of {model.name!r} to take the predictions before it, of shape "
            f"{shapes[0] if len(shapes) == 1 else shapes}. Received: {wanted}."
        )
    return {**inputs, names[0]: said[0]} if len(names) == 1 else [*keras.tree.flatten(inputs), said[0]]


def _heard(said: list[Any], earlier: Member, member: Member, number: int) -> list[Any]:
    """What each output hears: the one in its place where both have the same, else all."""
    try:
        keras.tree.assert_same_structure(earlier.outputs, member.outputs)
    except (ValueError, TypeError):
        inside = {tuple(one.shape[1:-1]) for one in said}
        if len(inside) != 1:
            raise ValueError(
                f"`model` of Chained: expected outputs of the same axes before the last. Received: {[tuple(one.shape) for one in said]}."
            ) from None
        joined = keras.layers.Concatenate(dtype="float32", name=f"said_{number}")(said) if len(said) > 1 else said[0]
        return [joined] * len(keras.tree.flatten(member.outputs))
    return said


def _added(leaf: Any, head: str, said: Any, name: str, end: str, model: keras.Model) -> Any:
    """An output that has heard what was said, on the scale on which it was, as that of a layer `end`."""
    if tuple(leaf.shape[1:-1]) != tuple(said.shape[1:-1]):
        raise ValueError(
            f"`model` of Chained: the outputs {tuple(leaf.shape)} of {model.name!r} cannot take predictions of shape {tuple(said.shape)}. "
            "Give it an input of its own for them."
        )
    added = Adding(leaf.shape[-1], name=f"adding_{name}")([Logits(head, name=f"logits_{name}")(leaf), said])
    activation = head if head in ("softmax", "sigmoid") else "linear"
    return keras.layers.Activation(activation, dtype="float32", name=end)(added)


def _flat_heads(member: Member) -> list[str]:
    leaves = keras.tree.flatten(member.outputs)
    return [member.head] * len(leaves) if isinstance(member.head, str) else keras.tree.flatten(member.head)
