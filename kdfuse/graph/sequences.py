"""How recurrent layers and attention make channels: a unit over all its gates, a whole head."""

from typing import Any

import keras
import numpy as np

from kdfuse.graph.channels import Ids, Member, Trail
from kdfuse.graph.uses import Rule, Use, is_elementwise, need
from kdfuse.graph.weighted import plain, weight

layers = keras.layers
GATES: dict[type, int] = {layers.SimpleRNN: 1, layers.LSTM: 4, layers.GRU: 3}


def recurrent(use: Use) -> list[Trail | None]:
    """SimpleRNN, LSTM, GRU: a unit has its place in each gate, and all units read all of them."""
    layer = use.layer
    member = use.member(lambda config, count: config.update(units=count("out")))
    given, made = use.read(member, use.first, 2), use.channels.made(member, "out", layer.units)
    _initial(use, made)
    _cell(member, layer, given, made)
    member.readers["in"] = (layer, -1)
    _elementwise(use, layer, made)
    return [Trail(len(tensor.shape) - 1, made) for tensor in use.outputs]


def bidirectional(use: Use) -> list[Trail | None]:
    """Bidirectional: unit k goes from both directions at once."""
    layer, both = use.layer, (use.layer.forward_layer, use.layer.backward_layer)
    need(type(both[0]) in GATES and type(both[0]) is type(both[1]) and both[0].units == both[1].units, "it holds other layers than known")

    def resize(config: dict[str, Any], count: Any) -> None:
        for part in ("layer", "backward_layer"):
            config[part]["config"]["units"] = count("out")
            config[part].pop("build_config", None)  # it holds the former shape of the inputs

    member = use.member(resize)
    given, made = use.read(member, use.first, 2), use.channels.made(member, "out", both[0].units)
    _initial(use, made)
    for one in both:
        _cell(member, one, given, made)
        _elementwise(use, one, made)
    member.readers["in"] = (layer, -1)
    width = len(made) * (2 if layer.merge_mode == "concat" else 1)
    first = [np.tile(made, 2) if layer.merge_mode == "concat" else made] * (2 if layer.merge_mode is None else 1)
    need(use.outputs[0].shape[-1] == width, "its outputs have another width than known")
    return [Trail(len(tensor.shape) - 1, first[0] if place < len(first) else made) for place, tensor in enumerate(use.outputs)]


def attention(use: Use) -> list[Trail | None]:
    """MultiHeadAttention: heads go whole; query, value and key are read, the output projection makes units."""
    layer, names = use.layer, ("query", "value", "key")
    shape = layer._output_shape
    need(shape is None or isinstance(shape, int) or len(shape) == 1, "its output has several axes of features")
    given = dict(zip(names, use.args, strict=False)) | {name: use.kwargs[name] for name in names if name in use.kwargs}
    if given.get("key") is None:
        given["key"] = given["value"]
    width = use.outputs[0].shape[-1]

    def resize(config: dict[str, Any], count: Any) -> None:
        config["num_heads"] = count("heads")
        if config["output_shape"] is not None or count("out") != width or count("query") != width:
            config["output_shape"] = (count("out"),)

    member = use.member(resize)
    heads, made = use.channels.made(member, "heads", layer.num_heads), use.channels.made(member, "out", width)
    ids = {name: use.read(member, given[name], len(given[name].shape) - 1, name) for name in names}
    for name in names:
        need(ids[name] is not None, f"the channels of its {name} lie along another axis")
    projections = [("query", layer._query_dense), ("key", layer._key_dense), ("value", layer._value_dense)]
    if getattr(layer, "_use_gate", False):
        projections.append(("query", layer._gate_dense))
    for name, part in projections:
        plain(part)
        weight(member, part._kernel, axis0=(name, "in", ids[name]), axis1=("heads", "out", heads))
        weight(member, part.bias, axis0=("heads", "out", heads))
        member.readers[name] = (part, -1)
    plain(layer._output_dense)
    weight(member, layer._output_dense._kernel, axis0=("heads", "in", heads), axis2=("out", "out", made))
    weight(member, layer._output_dense.bias, axis0=("out", "out", made))
    member.readers["heads"] = (layer._output_dense, -2)
    trails: list[Trail | None] = [Trail(len(use.outputs[0].shape) - 1, made)]
    mask = use.kwargs.get("attention_mask")
    if mask is not None and len(mask.shape) >= 4 and mask.shape[1] != 1:
        use.channels.protect(heads, f"{use.text} has a mask for each head")
    if len(use.outputs) > 1:  # the scores of each head
        use.channels.protect(heads, f"the scores of {use.text} are read")
        trails += [Trail(1, heads)] * (len(use.outputs) - 1)
    return trails


def _cell(member: Member, layer: Any, given: Ids | None, made: Ids) -> None:
    gates, cell = GATES[type(layer)], layer.cell
    wide = np.tile(made, gates)
    weight(member, cell.kernel, axis0=("in", "in", given), axis1=("out", "out", wide))
    weight(member, cell.recurrent_kernel, axis0=("out", "in", made), axis1=("out", "out", wide))
    bias = getattr(cell, "bias", None)
    if bias is not None:
        weight(member, bias, axis_1=("out", "out", wide))


def _initial(use: Use, made: Ids) -> None:
    """The states that a layer begins with are of its units."""
    states = use.kwargs.get("initial_state", use.args[1] if len(use.args) > 1 else None)
    for state in keras.tree.flatten(states) if states is not None else []:
        trail = use.trail(state)
        need(trail is not None and trail.axis == 1, "its initial state is not followed")
        assert trail is not None
        use.channels.unite(made, trail.ids)


def _elementwise(use: Use, layer: Any, made: Ids) -> None:
    if not (is_elementwise(layer.activation) and is_elementwise(getattr(layer, "recurrent_activation", None))):
        use.channels.protect(made, f"the activation of {use.text} mixes channels")


RULES: dict[type, Rule] = {
    **dict.fromkeys(GATES, recurrent),
    layers.Bidirectional: bidirectional,
    layers.MultiHeadAttention: attention,
}
