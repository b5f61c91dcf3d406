"""Follow the channels of a model through its graph: who makes them, who passes them on, who reads them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.graph import sequences, weighted, weightless
from kdfuse.graph.channels import Channels, Count, Member, NotFollowed, Trail
from kdfuse.graph.families import settle
from kdfuse.graph.nodes import graph_of, nodes_of
from kdfuse.graph.uses import Rule, Use
from kdfuse.settings import suggest

RULES: dict[type, Rule] = {**weightless.RULES, **weighted.RULES, **sequences.RULES}
Trails = dict[int, Trail | None]
Visit = Callable[[Use, list[Trail | None]], list[Trail | None]]


def follow(model: keras.Model, protect: Sequence[str] = (), visit: Visit | None = None) -> Channels:
    """The channels of a model.

    Each unit of a layer gets an id. Ids go through the graph, also through nested models and layers used several times; where they are
    added or multiplied they are united. Inputs and outputs of the model, and all that an unknown layer reads, stay.

    Args:
        model: with a functional graph, or a stack of layers that is built. It is only read.
        protect: names of layers whose units stay, or paths through nested models (`backbone/conv1`).
        visit: sees each step, see `Channels`.

    Returns:
        The channels, those that stay with the reason why.

    Raises:
        ValueError: the model has no graph, or no layer of that name makes units.
    """
    graph = graph_of(model)
    if graph is None:
        raise ValueError(
            f"`model`: {model.name!r} ({type(model).__name__}) has no graph of layers to follow, for its `call` is its own. Build it "
            "from the functional API or keras.Sequential with an Input, for example keras.Model(inputs, model.call(inputs))."
        )
    channels = Channels(visit)
    given = [_closed(channels, tensor, "an input of the model") for tensor in graph.inputs]
    for trail in _through(channels, model, given, ""):
        if trail is not None:
            channels.protect(trail.ids, "an output of the model", first=True)
    paths = {member.path: member for member in channels.members.values() if member.made or _passes(member)}
    for name in protect:
        found = [member for path, member in paths.items() if path == name or path.endswith(f"/{name}")]
        if not found:
            raise ValueError(f"`protect`: no layer {name!r} of {model.name!r} makes units. {suggest(name, paths)}")
        for member in found:
            for slot in member.made or ("in",):
                channels.protect(member.slots[slot], "named in `protect`")
    settle(channels)
    return channels


def _through(channels: Channels, model: Any, given: list[Trail | None], prefix: str) -> list[Trail | None]:
    graph = graph_of(model)
    known = channels.inputs.setdefault(id(model), given)
    for first, again in zip(known, given, strict=True):
        if first is not None and again is not None:
            channels.unite(first.ids, again.ids)
    trails: Trails = {
        id(tensor): trail if now is None or trail is None else trail._replace(value=now.value)
        for tensor, trail, now in zip(graph.inputs, known, given, strict=True)
    }
    for node in nodes_of(graph):
        if any(id(tensor) not in trails for tensor in node.input_tensors):
            continue
        layer = node.operation
        use = Use(channels, layer, prefix + layer.name, node.arguments.args, node.arguments.kwargs, node.outputs, trails)
        made = _step(use)
        if channels.visit is not None and graph_of(layer) is None:
            made = channels.visit(use, made)
        for tensor, trail in zip(node.outputs, made, strict=True):
            trails[id(tensor)] = trail
    return [trails.get(id(tensor)) for tensor in graph.outputs]


def _step(use: Use) -> list[Trail | None]:
    try:
        if graph_of(use.layer) is not None:
            inner = graph_of(use.layer)
            given = [use.trail(tensor) for tensor in keras.tree.flatten(use.args[0] if use.args else use.inputs)]
            if len(given) == len(inner.inputs) and all(
                trail is None or (len(inside.shape) > trail.axis and inside.shape[trail.axis] in (None, len(trail.ids)))
                for trail, inside in zip(given, inner.inputs, strict=True)
            ):
                return _through(use.channels, use.layer, given, f"{use.path}/")
            raise NotFollowed("it is called on other inputs than it was made for")
        if type(use.layer) is keras.layers.TimeDistributed:
            return _each_step(use)
        return _rule(use.layer)(use)
    except NotFollowed as problem:
        for tensor in use.inputs:
            trail = use.trail(tensor)
            use.channels.protect(None if trail is None else trail.ids, f"read by {use.text}: {problem}")
        member = use.channels.members.get(id(use.layer))
        for ids in member.slots.values() if member is not None else ():
            use.channels.protect(ids, f"made by {use.text}: {problem}")
        return [_closed(use.channels, tensor, f"made by {use.text}: {problem}") for tensor in use.outputs]


def _rule(layer: Any) -> Rule:
    if isinstance(layer, keras.Layer):
        rule = RULES.get(type(layer))
    else:
        own = type(layer).__module__.split(".")[0] == "keras"
        rule = weightless.OPERATIONS.get(type(layer).__name__) if own else None
    if rule is None:
        raise NotFollowed("layers of its kind are not followed")
    return rule


def _each_step(use: Use) -> list[Trail | None]:
    """TimeDistributed: the layer inside, without the axis of steps."""
    inner, tensor, out = use.layer.layer, use.first, use.outputs[0]
    trail = use.trail(tensor)
    if graph_of(inner) is not None or trail is None or trail.axis < 2:
        raise NotFollowed("what it holds is not followed")
    one, made = (keras.KerasTensor((shape[0], *shape[2:]), dtype=tensor.dtype) for shape in (tensor.shape, out.shape))
    inside = Use(use.channels, inner, use.path, (one,), {}, [made], {id(one): Trail(trail.axis - 1, trail.ids)})
    (result,) = _rule(inner)(inside)
    member = use.channels.members.get(id(inner))

    def resize(config: dict[str, Any], count: Count) -> None:
        config["layer"].pop("build_config", None)  # it holds the former shape of the inputs
        if member is not None and member.resize is not None:
            member.resize(config["layer"]["config"], count)

    outer = use.member(resize)
    outer.slots = {} if member is None else dict(member.slots)
    return [None if result is None else Trail(result.axis + 1, result.ids)]


def _closed(channels: Channels, tensor: Any, reason: str) -> Trail | None:
    shape = tuple(tensor.shape)
    if len(shape) < 2 or shape[-1] is None:
        return None
    ids = channels.new(shape[-1])
    channels.protect(ids, reason)
    return Trail(len(shape) - 1, ids)


def _passes(member: Member) -> bool:
    """Whether a layer has a filter of its own for each channel that passes it: a depthwise convolution."""
    return type(member.layer).__name__.endswith(("Conv1D", "Conv2D", "Conv3D")) and "in" in member.slots


def describe(channels: Channels) -> list[dict[str, Any]]:
    """A row for each layer that makes units: `layer`, `kind`, `units`, and `protected`, the reason why some stay or an empty text."""
    reasons, rows = channels.reasons, []
    for member in channels.members.values():
        for slot in member.made:
            roots = np.unique(channels.roots(member.slots[slot])).tolist()
            why = next((reasons[root] for root in roots if root in reasons), "")
            rows.append(
                {
                    "layer": member.path,
                    "kind": f"{type(member.layer).__name__}{' heads' if slot == 'heads' else ''}",
                    "units": len(member.slots[slot]),
                    "protected": why,
                }
            )
    return rows
