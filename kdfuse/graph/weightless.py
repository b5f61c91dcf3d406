"""How layers and operations without weights pass channels on."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kdfuse.graph.channels import Channels, Ids, NotFollowed, Trail
from kdfuse.graph.uses import Rule, Use, channel_axis, is_elementwise, need

layers = keras.layers


def same(use: Use) -> list[Trail | None]:
    """One tensor in, one of the same channels out."""
    trail, out = use.trail(use.first), use.outputs[0]
    if trail is None:
        return [None]
    need(len(out.shape) == len(use.first.shape) and out.shape[trail.axis] == len(trail.ids), "it changes the number of channels")
    return [trail]


def clip(use: Use) -> list[Trail | None]:
    """Clipping between two numbers; bounds for each channel are not followed."""
    need(np.size(use.layer.x_min) == np.size(use.layer.x_max) == 1, "it clips each channel between bounds of its own")
    return same(use)


def spatial(use: Use) -> list[Trail | None]:
    """Pooling, padding, cropping and upsampling of the axes between batch and channels."""
    trail = use.trail(use.first)
    need(trail is None or trail.axis == channel_axis(use.layer, len(use.first.shape)), "it works along the channels")
    return same(use)


def activation(use: Use) -> list[Trail | None]:
    """Activation: passes channels on where its function treats each by itself."""
    need(is_elementwise(use.layer.activation), "its function mixes channels")
    return same(use)


def softmax(use: Use) -> list[Trail | None]:
    """Softmax along other axes than the channels."""
    trail, rank = use.trail(use.first), len(use.first.shape)
    axes = use.layer.axis if isinstance(use.layer.axis, list | tuple) else (use.layer.axis,)
    need(trail is None or trail.axis not in [axis % rank for axis in axes], "it mixes channels")
    return same(use)


def dropout(use: Use) -> list[Trail | None]:
    """Dropout, unless its noise has a shape with the channels in it."""
    trail, shape = use.trail(use.first), getattr(use.layer, "noise_shape", None)
    need(shape is None or trail is None or shape[trail.axis] in (None, 1), "its `noise_shape` holds the number of channels")
    return same(use)


def rescaling(use: Use) -> list[Trail | None]:
    """Rescaling by one number for all channels."""
    need(np.ndim(use.layer.scale) == 0 and np.ndim(use.layer.offset) == 0, "it holds a number for each channel")
    return same(use)


def merge(use: Use) -> list[Trail | None]:
    """Add, Multiply and the like: channels at equal places, after broadcasting, become one."""
    out = use.outputs[0]
    rank = len(out.shape)
    operands = [one for one in keras.tree.flatten((use.args, use.kwargs)) if getattr(one, "shape", None) is not None]
    symbolic = [one for one in operands if isinstance(one, keras.KerasTensor)]
    trails = {id(one): use.trail(one) for one in symbolic}
    if all(trail is None for trail in trails.values()):
        return [None]
    places: dict[int, list[Ids]] = {}
    for one in symbolic:
        trail = trails[id(one)]
        if trail is not None:
            axis = trail.axis - len(one.shape)
            if len(trail.ids) == out.shape[axis]:
                places.setdefault(axis, []).append(trail.ids)
    wide = [axis for axis in places if out.shape[axis] != 1] or list(places)[:1]
    need(len(wide) == 1, "it joins channels along different axes")
    axis = wide[0]
    for one in operands:
        size = one.shape[axis] if len(one.shape) >= -axis else 1
        trail = trails.get(id(one))
        fits = trail is not None and trail.axis - len(one.shape) == axis and size == out.shape[axis]
        need(size == 1 or fits, "it joins them with values that are not followed")
    first, *others = places[axis]
    for other in others:
        use.channels.unite(first, other)
    return [Trail(rank + axis, first)]


def concatenate(use: Use) -> list[Trail | None]:
    """Concatenate: along the channels one after the other, along other axes they become one."""
    tensors, rank = use.inputs, len(use.outputs[0].shape)
    trails = [use.trail(tensor) for tensor in tensors]
    if all(trail is None for trail in trails):
        return [None]
    known = [trail for trail in trails if trail is not None]
    need(len(known) == len(trails) and len({trail.axis for trail in known}) == 1, "it joins channels along different axes")
    axis = known[0].axis
    if use.layer.axis % rank == axis:
        return [Trail(axis, np.concatenate([trail.ids for trail in known]))]
    for other in known[1:]:
        use.channels.unite(known[0].ids, other.ids)
    return [known[0]]


def flatten(use: Use) -> list[Trail | None]:
    """Flatten: each channel becomes as many positions as it had places."""
    trail, tensor = use.trail(use.first), use.first
    if trail is None:
        return [None]
    ids = _everywhere(trail, tensor.shape)
    if use.layer.data_format == "channels_first" and ids.ndim > 1:
        ids = np.moveaxis(ids, 0, -1)
    return [Trail(1, ids.ravel())]


def reshape(use: Use) -> list[Trail | None]:
    """Reshape; where channels end up along several axes, those of one place along the last of them become one."""
    tensor, out = use.first, use.outputs[0]
    trail = use.trail(tensor)
    if trail is None:
        return [None]
    sizes = tuple(out.shape)
    if trail.axis == len(tensor.shape) - 1 and sizes[-1] == len(trail.ids):
        made = Trail(len(sizes) - 1, trail.ids)
    else:
        need(None not in (*tensor.shape[1:], *sizes[1:]), "the shape is open")
        need(math.prod(tensor.shape[1:]) == math.prod(sizes[1:]), "it reshapes the batch axis")
        made = _along_one_axis(use.channels, _everywhere(trail, tensor.shape).reshape(sizes[1:]))
    member = use.member(_resized(use.layer, made.axis))
    return [Trail(made.axis, use.channels.slot(member, "out", made.ids))]


def permute(use: Use) -> list[Trail | None]:
    """Permute and transpose."""
    trail, rank = use.trail(use.first), len(use.first.shape)
    if trail is None:
        return [None]
    order = (0, *use.layer.dims) if isinstance(use.layer, layers.Permute) else use.layer.axes
    order = tuple(axis % rank for axis in order) if order is not None else tuple(reversed(range(rank)))
    return [Trail(order.index(trail.axis), trail.ids)]


def repeat(use: Use) -> list[Trail | None]:
    """RepeatVector."""
    trail = use.trail(use.first)
    return [None if trail is None else Trail(2, trail.ids)]


def pool_all(use: Use) -> list[Trail | None]:
    """Global pooling."""
    trail, rank = use.trail(use.first), len(use.first.shape)
    need(trail is None or trail.axis == channel_axis(use.layer, rank), "it works along the channels")
    return [trail if trail is None or use.layer.keepdims else Trail(1, trail.ids)]


def reduce(use: Use) -> list[Trail | None]:
    """Mean, sum, maximum and the like over other axes than the channels."""
    trail, rank, axes = use.trail(use.first), len(use.first.shape), use.layer.axis
    if trail is None:
        return [None]
    need(axes is not None, "it mixes channels")
    gone = {axis % rank for axis in (axes if isinstance(axes, list | tuple) else (axes,))}
    need(trail.axis not in gone, "it mixes channels")
    return [trail if use.layer.keepdims else Trail(trail.axis - sum(axis < trail.axis for axis in gone), trail.ids)]


def expand(use: Use) -> list[Trail | None]:
    """ExpandDims."""
    trail, rank = use.trail(use.first), len(use.outputs[0].shape)
    axes = use.layer.axis if isinstance(use.layer.axis, list | tuple) else (use.layer.axis,)
    if trail is None:
        return [None]
    new = sorted(axis % rank for axis in axes)
    kept = [axis for axis in range(rank) if axis not in new]
    return [Trail(kept[trail.axis], trail.ids)]


def squeeze(use: Use) -> list[Trail | None]:
    """Squeeze of other axes than the channels."""
    trail, rank, axes = use.trail(use.first), len(use.first.shape), use.layer.axis
    if trail is None:
        return [None]
    need(axes is not None, "the axes to squeeze are not named")
    gone = {axis % rank for axis in (axes if isinstance(axes, list | tuple) else (axes,))}
    need(trail.axis not in gone, "it takes away the axis of channels")
    return [Trail(trail.axis - sum(axis < trail.axis for axis in gone), trail.ids)]


def item(use: Use) -> list[Trail | None]:
    """`x[:, 0]` and the like, with all channels."""
    trail, rank = use.trail(use.first), len(use.first.shape)
    if trail is None:
        return [None]
    key = use.args[1] if len(use.args) > 1 else use.kwargs["key"]
    parts = list(key) if isinstance(key, list | tuple) else [key]
    need(all(isinstance(part, int | slice) or part is None or part is Ellipsis for part in parts), "its index is not followed")
    given = sum(part is not None and part is not Ellipsis for part in parts)
    place = next((spot for spot, part in enumerate(parts) if part is Ellipsis), len(parts))
    parts[place : place + 1] = [slice(None)] * (rank - given)
    axis = made = 0
    for part in parts:
        if part is None:
            made += 1
            continue
        if axis == trail.axis:
            need(part == slice(None), "it takes some channels by number")
            return [Trail(made, trail.ids)]
        axis, made = axis + 1, made + (not isinstance(part, int))
    raise NotFollowed("its index is not followed")


def statistics(use: Use) -> list[Trail | None]:
    """Normalization over the channels: it reads all of them in each."""
    raise NotFollowed("its statistics would change")


def _everywhere(trail: Trail, shape: Any) -> Ids:
    """The id at each position of a tensor without its batch axis."""
    need(None not in tuple(shape)[1:], "the shape is open")
    along = trail.ids.reshape([-1 if axis == trail.axis else 1 for axis in range(1, len(shape))])
    return np.broadcast_to(along, tuple(shape)[1:])


def _along_one_axis(channels: Channels, ids: Ids) -> Trail:
    roots = channels.roots(ids)
    varying = [axis for axis in range(ids.ndim) if (roots != np.take(roots, [0], axis=axis)).any()]
    axis = varying[-1] if varying else ids.ndim - 1
    lines = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
    if len(varying) > 1:
        channels.unite(lines[:, 1:], np.broadcast_to(lines[:, :1], lines[:, 1:].shape))
    return Trail(axis + 1, lines[:, 0])


def _resized(layer: Any, axis: int) -> Callable[[Any, Callable[[str], int]], None]:
    def resize(changed: Any, count: Callable[[str], int]) -> None:
        is_layer = isinstance(layer, keras.Layer)
        target = list(layer.target_shape if is_layer else layer.newshape)
        place = axis - 1 if is_layer else axis
        if target[place] != -1:
            target[place] = count("out")
        changed["target_shape" if is_layer else "newshape"] = tuple(target)

    return resize


def _layers(*names: str) -> list[type]:
    return [getattr(layers, name) for name in names if hasattr(layers, name)]


_POOLS = [f"{kind}Pooling{size}D" for kind in ("Max", "Average") for size in (1, 2, 3)]
_GLOBAL = [f"Global{name}" for name in _POOLS]
_SPATIAL = [f"{kind}{size}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for size in (1, 2, 3)]

RULES: dict[type, Rule] = {
    layers.Activation: activation,
    layers.Softmax: softmax,
    layers.Rescaling: rescaling,
    layers.Concatenate: concatenate,
    layers.Flatten: flatten,
    layers.Reshape: reshape,
    layers.Permute: permute,
    layers.RepeatVector: repeat,
    **dict.fromkeys(_layers("LayerNormalization", "RMSNormalization", "UnitNormalization"), statistics),
    **dict.fromkeys(_layers("ReLU", "LeakyReLU", "ELU", "Identity", "GaussianNoise", "GaussianDropout", "ActivityRegularization"), same),
    **dict.fromkeys(_layers("Dropout", "AlphaDropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), dropout),
    **dict.fromkeys(_layers(*_POOLS, *_SPATIAL, "Resizing"), spatial),
    **dict.fromkeys(_layers(*_GLOBAL), pool_all),
    **dict.fromkeys(_layers("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), merge),
}

OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(
        ("Relu", "Relu6", "Sigmoid", "HardSigmoid", "Silu", "HardSilu", "Gelu", "Elu", "Selu", "Celu", "LeakyRelu", "Softplus", "Softsign",
         "Tanh", "HardTanh", "LogSigmoid", "Mish", "Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Square", "Absolute", "Abs", "Negative",
         "Sin", "Cos", "Erf", "Cast", "Reciprocal", "Sign", "StopGradient", "Identity", "Pad"), same),
    **dict.fromkeys(
        ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Power", "Where", "Equal", "NotEqual", "Greater",
         "GreaterEqual", "Less", "LessEqual"), merge),
    **dict.fromkeys(("Mean", "Sum", "Max", "Min", "Var", "Std", "Prod", "Amax", "Amin", "Logsumexp"), reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    "Clip": clip,
    "Concatenate": concatenate,
    "Reshape": reshape,
    "Transpose": permute,
    "ExpandDims": expand,
    "Squeeze": squeeze,
    "GetItem": item,
}  # fmt: skip
