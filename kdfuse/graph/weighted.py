"""How layers with kernels read, make and pass on channels."""

from typing import Any

import keras
import numpy as np

from kdfuse.graph.channels import Axis, Ids, Member, Trail, Weight
from kdfuse.graph.uses import Rule, Use, channel_axis, is_elementwise, need

layers = keras.layers


def weight(member: Member, variable: Any, **axes: tuple[str, str, Ids | None]) -> None:
    """Note a weight once: `axis0=("in", "in", ids)`; negative axes are `axis_1` and so on. Axes without ids are left out."""
    if variable is None or any(one.variable is variable for one in member.weights):
        return
    rank = len(variable.shape)
    numbers = {name: int(name.removeprefix("axis").replace("_", "-")) % rank for name in axes}
    known = {numbers[name]: Axis(slot, role, ids) for name, (slot, role, ids) in axes.items() if ids is not None}
    member.weights.append(Weight(variable, known))


def plain(layer: Any) -> None:
    """Give up on a layer whose weights are stored in another form."""
    need(getattr(layer, "quantization_mode", None) is None, "it is quantized")
    need(not getattr(layer, "lora_enabled", False), "it has LoRA weights")


def dense(use: Use) -> list[Trail | None]:
    """Dense: reads the last axis."""
    layer, tensor = use.layer, use.first
    plain(layer)
    member = use.member(lambda config, count: config.update(units=count("out")))
    last = len(tensor.shape) - 1
    given, made = use.read(member, tensor, last), use.channels.made(member, "out", layer.units)
    weight(member, layer._kernel, axis0=("in", "in", given), axis1=("out", "out", made))
    weight(member, layer.bias, axis0=("out", "out", made))
    member.readers["in"] = (layer, -1)
    return [Trail(last, _activated(use, made))]


def convolution(use: Use) -> list[Trail | None]:
    """Conv1D to Conv3D, grouped too. As many groups as inputs is a depthwise convolution."""
    layer, tensor = use.layer, use.first
    axis = channel_axis(layer, len(tensor.shape))
    groups = layer.groups
    plain(layer)
    if groups > 1 and groups == tensor.shape[axis]:
        return _depthwise_groups(use, axis)
    member = use.member(lambda config, count: config.update(filters=count("out")))
    given, made = use.read(member, tensor, axis), use.channels.made(member, "out", layer.filters)
    if groups > 1:
        if given is not None:
            given = given.reshape(groups, -1)
            use.channels.blocks.append(given)
        use.channels.blocks.append(made.reshape(groups, -1))
    weight(member, layer._kernel, axis_2=("in", "in", given), axis_1=("out", "out", made))
    weight(member, layer.bias, axis0=("out", "out", made))
    member.readers["in"] = (layer, axis - len(tensor.shape))
    return [Trail(axis, _activated(use, made))]


def transposed(use: Use) -> list[Trail | None]:
    """Conv1DTranspose to Conv3DTranspose."""
    layer, tensor = use.layer, use.first
    axis = channel_axis(layer, len(tensor.shape))
    need(getattr(layer, "groups", 1) in (1, None), "it has groups")
    member = use.member(lambda config, count: config.update(filters=count("out")))
    given, made = use.read(member, tensor, axis), use.channels.made(member, "out", layer.filters)
    weight(member, layer.kernel, axis_1=("in", "in", given), axis_2=("out", "out", made))
    weight(member, layer.bias, axis0=("out", "out", made))
    member.readers["in"] = (layer, axis - len(tensor.shape))
    return [Trail(axis, _activated(use, made))]


def depthwise(use: Use) -> list[Trail | None]:
    """DepthwiseConv1D, DepthwiseConv2D: each channel becomes `depth_multiplier` channels that go with it."""
    layer, tensor = use.layer, use.first
    axis = channel_axis(layer, len(tensor.shape))
    member = use.member()
    given = use.read(member, tensor, axis)
    need(given is not None, "its channels lie along another axis")
    assert given is not None
    made = np.repeat(given, layer.depth_multiplier)
    weight(member, layer.kernel, axis_2=("in", "own", given))
    weight(member, layer.bias, axis0=("in", "own", made))
    return [Trail(axis, _activated(use, made))]


def separable(use: Use) -> list[Trail | None]:
    """SeparableConv1D, SeparableConv2D."""
    layer, tensor = use.layer, use.first
    axis = channel_axis(layer, len(tensor.shape))
    member = use.member(lambda config, count: config.update(filters=count("out")))
    given, made = use.read(member, tensor, axis), use.channels.made(member, "out", layer.filters)
    between = None if given is None else np.repeat(given, layer.depth_multiplier)
    weight(member, layer.depthwise_kernel, axis_2=("in", "own", given))
    weight(member, layer.pointwise_kernel, axis_2=("in", "in", between), axis_1=("out", "out", made))
    weight(member, layer.bias, axis0=("out", "out", made))
    member.readers["in"] = (layer, axis - len(tensor.shape))
    return [Trail(axis, _activated(use, made))]


def einsum(use: Use) -> list[Trail | None]:
    """EinsumDense: reads the axis of a letter that is summed over, makes the last axis whose letter is new."""
    layer, tensor = use.layer, use.first
    plain(layer)
    spec, out_spec = layer.equation.replace(" ", "").split("->")
    in_spec, kernel_spec = spec.split(",")
    need(not in_spec.endswith("..."), "its equation ends with dots")
    rank, out_rank = len(tensor.shape), len(use.outputs[0].shape)
    in_axes = _letters(in_spec, rank)
    out_axes = _letters(out_spec, out_rank)
    new = [letter for letter in kernel_spec if letter in out_axes and letter not in in_axes]
    summed = [letter for letter in kernel_spec if letter in in_axes and letter not in out_axes]
    need(bool(new) and bool(summed), "its equation has no new axis")
    letter = new[-1]
    axis = out_axes[letter]

    def resize(config: dict[str, Any], count: Any) -> None:
        shape = config["output_shape"]
        sizes = [shape] if isinstance(shape, int) else list(shape)
        sizes[axis - out_rank if "..." in out_spec else axis - 1] = count("out")
        config["output_shape"] = tuple(sizes)

    member = use.member(resize)
    trail = use.trail(tensor)
    read = next((one for one in summed if trail is not None and in_axes[one] == trail.axis), None)
    given = use.read(member, tensor, in_axes[read or summed[-1]])
    made = use.channels.made(member, "out", use.outputs[0].shape[axis])
    axes: dict[str, Any] = {f"axis{kernel_spec.index(letter)}": ("out", "out", made)}
    if read is not None:
        axes[f"axis{kernel_spec.index(read)}"] = ("in", "in", given)
        member.readers["in"] = (layer, in_axes[read] - rank)
    weight(member, layer._kernel, **axes)
    if layer.bias is not None:
        along = len(layer.bias.shape) - (out_rank - axis)
        has = letter in layer.bias_axes
        weight(member, layer.bias, **({f"axis{along}": ("out", "out", made)} if has else {}))
    return [Trail(axis, _activated(use, made))]


def embedding(use: Use) -> list[Trail | None]:
    """Embedding: makes the last axis. What it is called on are numbers, which stay."""
    layer = use.layer
    plain(layer)
    trail = use.trail(use.first)
    use.channels.protect(None if trail is None else trail.ids, f"{use.text} reads them as token ids")
    member = use.member(lambda config, count: config.update(output_dim=count("out")))
    made = use.channels.made(member, "out", layer.output_dim)
    weight(member, layer._embeddings, axis1=("out", "out", made))
    return [Trail(len(use.outputs[0].shape) - 1, made)]


def batch_norm(use: Use) -> list[Trail | None]:
    """BatchNormalization along the channels."""
    layer, tensor = use.layer, use.first
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
    member = use.member()
    given = use.read(member, tensor, axis % len(tensor.shape))
    need(given is not None, "it normalizes along another axis")
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        weight(member, variable, axis0=("in", "own", given))
    return [use.trail(tensor)]


def group_norm(use: Use) -> list[Trail | None]:
    """GroupNormalization with a group for each channel; statistics over several channels would change."""
    layer, tensor = use.layer, use.first
    axis = layer.axis % len(tensor.shape)
    need(layer.groups in (-1, tensor.shape[axis]), "its statistics would change")
    member = use.member(lambda config, count: config.update(groups=count("in")))
    given = use.read(member, tensor, axis)
    need(given is not None, "it normalizes along another axis")
    for variable in (layer.gamma, layer.beta):
        weight(member, variable, axis0=("in", "own", given))
    return [use.trail(tensor)]


def prelu(use: Use) -> list[Trail | None]:
    """PReLU: a slope for each channel, or shared."""
    trail = use.trail(use.first)
    need(trail is not None, "its channels are not known")
    assert trail is not None
    member = use.member()
    given = use.channels.slot(member, "in", trail.ids)
    axis = trail.axis - 1
    own = use.layer.alpha.shape[axis] == len(given)
    weight(member, use.layer.alpha, **({f"axis{axis}": ("in", "own", given)} if own else {}))
    return [trail]


def _depthwise_groups(use: Use, axis: int) -> list[Trail | None]:
    layer = use.layer
    multiplier = layer.filters // layer.groups
    member = use.member(lambda config, count: config.update(groups=count("in"), filters=count("in") * multiplier))
    given = use.read(member, use.first, axis)
    need(given is not None, "its channels lie along another axis")
    assert given is not None
    made = np.repeat(given, multiplier)
    weight(member, layer._kernel, axis_1=("in", "own", made))
    weight(member, layer.bias, axis0=("in", "own", made))
    return [Trail(axis, _activated(use, made))]


def _letters(spec: str, rank: int) -> dict[str, int]:
    plain_spec = spec.replace("...", "")
    offset = rank - len(plain_spec)
    return {letter: place + offset for place, letter in enumerate(plain_spec)}


def _activated(use: Use, ids: Ids) -> Ids:
    if not is_elementwise(getattr(use.layer, "activation", None)):
        use.channels.protect(ids, f"the activation of {use.text} mixes channels")
    return ids


RULES: dict[type, Rule] = {
    layers.Dense: dense,
    layers.EinsumDense: einsum,
    layers.Embedding: embedding,
    layers.BatchNormalization: batch_norm,
    layers.GroupNormalization: group_norm,
    layers.PReLU: prelu,
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), convolution),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), transposed),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), depthwise),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), separable),
}
