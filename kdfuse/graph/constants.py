"""Units that say nothing or always the same: found by following constants through the graph, removed without loss."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.graph import weightless
from kdfuse.graph.channels import Channels, Trail, rows
from kdfuse.graph.families import families
from kdfuse.graph.follow import follow
from kdfuse.graph.rebuild import rebuild
from kdfuse.graph.uses import Use, is_elementwise

layers = keras.layers
MOVES = (weightless.flatten, weightless.reshape, weightless.permute, weightless.repeat, weightless.expand, weightless.squeeze,
         weightless.item)  # fmt: skip
POINTWISE = (weightless.same, weightless.spatial, weightless.activation, weightless.dropout, weightless.rescaling, weightless.pool_all)
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
RULES = {**weightless.RULES, layers.BatchNormalization: weightless.same, layers.PReLU: weightless.same}


def remove_constant(model: keras.Model, protect: Sequence[str] = ()) -> keras.Model:
    """The model without the units that no kernel reads, and without those that are constant because their own weights are all 0.

    What a constant unit adds to its readers is added to their biases. A constant other than 0 stays where it cannot be: before a
    convolution that pads, before a layer without bias, or in a recurrent layer.

    Args:
        model: a private copy, not given back; its biases are changed.
        protect: as for `follow`.

    Returns:
        A model that computes the same; `model` itself where no unit can go.
    """
    while True:
        seen = _Constants()
        channels = follow(model, protect, seen.visit)
        found = families(channels)
        silent = seen.removable(channels)
        gone: list[int] = []
        for family in found:
            dead = [root for root in family.roots if root in silent]
            gone += dead[: len(family.roots) - 1]
        if not gone:
            return model
        seen.fold(channels, gone)
        model = rebuild(model, channels, gone).model


class _Constants:
    """Watches the following of channels and keeps the constants that kernels read."""

    def __init__(self) -> None:
        self.read: dict[tuple[int, str], list[np.ndarray]] = {}

    def visit(self, use: Use, made: list[Trail | None]) -> list[Trail | None]:
        member, trail = use.channels.members.get(id(use.layer)), use.trail(use.first)
        if member is not None and trail is not None and len(member.slots.get("in", ())) == len(trail.ids):
            self.read.setdefault((id(use.layer), "in"), []).append(_of(trail))
        return [None if trail is None else trail._replace(value=_value(use, trail) if len(made) == 1 else None) for trail in made]

    def removable(self, channels: Channels) -> set[int]:
        """Roots that are not protected and whose readers either have weights of 0 for them or can take their constant."""
        stay = set(channels.reasons)
        for block in channels.blocks:  # the groups of a convolution must keep equally many
            stay |= set(channels.roots(block).ravel().tolist())
        every = {int(root) for member in channels.members.values() for slot in member.made for root in channels.roots(member.slots[slot])}
        for member in channels.members.values():
            for weight in member.weights:
                for axis, kind in weight.axes.items():
                    if kind.role == "in":
                        ids, values = rows(weight, axis, np.abs(keras.ops.convert_to_numpy(weight.variable)))
                        needed = values.sum(axis=1) > 0
                        known = self._constant(id(member.layer), kind.slot, len(ids))
                        takes = (known == 0) | (~np.isnan(known) & _folds(member.layer))
                        stay |= set(channels.roots(ids[needed & ~takes]).tolist())
        return every - stay

    def fold(self, channels: Channels, gone: Sequence[int]) -> None:
        """Add what the channels `gone` give to the biases of their readers."""
        stays = channels.stay(gone)
        for member in channels.members.values():
            layer = member.layer
            if _folds(layer) and "in" in member.slots:
                known = self._constant(id(layer), "in", len(member.slots["in"]))
                given = np.where(stays(member.slots["in"]) | np.isnan(known), 0.0, known)
                kernel = keras.ops.convert_to_numpy(layer._kernel).astype("float64")
                kernel = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)
                if given.any():
                    layer.bias.assign(keras.ops.convert_to_numpy(layer.bias) + (given @ kernel).astype("float32"))

    def _constant(self, layer: int, slot: str, size: int) -> np.ndarray:
        """The constants that a layer reads, the same at each of its uses."""
        seen = self.read.get((layer, slot), [])
        if not seen or any(len(one) != size for one in seen):
            return np.full(size, np.nan)
        return np.where(np.all([one == seen[0] for one in seen], axis=0), seen[0], np.nan)


def _folds(layer: Any) -> bool:
    """Whether a constant input of a layer is the same as a bias."""
    pads = isinstance(layer, CONVOLUTIONS) and (layer.padding != "valid" or layer.groups > 1)
    return type(layer) in (layers.Dense, *CONVOLUTIONS) and layer.bias is not None and not pads


def _of(trail: Trail) -> np.ndarray:
    return np.full(len(trail.ids), np.nan) if trail.value is None else trail.value


def _value(use: Use, made: Trail) -> np.ndarray | None:
    """The constant of each channel of what a layer gives."""
    layer = use.layer
    if type(layer) in (layers.Dense, *CONVOLUTIONS):
        return _by_kernel(use)
    rule = RULES.get(type(layer)) if isinstance(layer, keras.Layer) else weightless.OPERATIONS.get(type(layer).__name__)
    trails = [use.trail(tensor) for tensor in use.inputs]
    shapes = [tensor.shape[1:] for tensor in use.inputs]
    if rule is None or None in trails or any(None in tuple(shape) for shape in shapes):
        return None
    unknown = [np.isnan(_of(trail)) for trail in trails if trail is not None]
    if all(one.all() for one in unknown) and rule is not weightless.merge:
        return None
    given = _lines(_run(use, [np.nan_to_num(_of(trail)) for trail in trails if trail is not None]), made)
    if rule in MOVES or rule is weightless.concatenate:
        lost = _lines(_run(use, [one.astype("float32") for one in unknown]), made).any(axis=1)
    elif rule in POINTWISE or rule in (weightless.merge, weightless.reduce):
        lost = np.any([one if len(one) == len(made.ids) else np.full(len(made.ids), one.any()) for one in unknown], axis=0)
        if rule is weightless.merge and type(layer).__name__ == "Multiply":  # nothing passes a factor of 0
            zero = [_of(trail) == 0 for trail in trails if trail is not None and len(trail.ids) == len(made.ids)]
            lost &= ~np.any([*zero, np.zeros(len(made.ids), dtype=bool)], axis=0)
    else:
        return None
    lost |= given.max(axis=1) != given.min(axis=1)
    return np.where(lost, np.nan, given[:, 0])


def _by_kernel(use: Use) -> np.ndarray | None:
    layer, trail = use.layer, use.trail(use.first)
    if trail is None or getattr(layer, "groups", 1) > 1 or not is_elementwise(layer.activation):
        return None
    known = _of(trail)
    kernel = keras.ops.convert_to_numpy(layer._kernel).astype("float64")
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    if kernel.shape[1] != len(known):
        return None
    border = isinstance(layer, CONVOLUTIONS) and layer.padding != "valid"
    varies = np.isnan(known) | (border & (known != 0))
    lost = (np.abs(kernel).sum(axis=0)[varies] > 0).any(axis=0)
    total = np.nan_to_num(known) @ kernel.sum(axis=0) + (0 if layer.bias is None else keras.ops.convert_to_numpy(layer.bias))
    if layer.activation is not None:
        total = keras.ops.convert_to_numpy(layer.activation(total.astype("float32")[None]))[0]
    return np.where(lost, np.nan, total)


def _run(use: Use, values: list[np.ndarray]) -> np.ndarray:
    """What a layer gives for one sample whose channels have these values everywhere."""
    given = {}
    for tensor, value in zip(use.inputs, values, strict=True):
        trail = use.trail(tensor)
        assert trail is not None
        shape = (1, *tensor.shape[1:])
        along = value.reshape([-1 if axis == trail.axis else 1 for axis in range(len(shape))])
        given[id(tensor)] = keras.ops.convert_to_tensor(np.broadcast_to(along, shape).astype("float32"))
    args, kwargs = keras.tree.map_structure(lambda one: given.get(id(one), one), (use.args, use.kwargs))
    kwargs.pop("training", None)
    return keras.ops.convert_to_numpy(use.layer(*args, **kwargs))


def _lines(value: np.ndarray, made: Trail) -> np.ndarray:
    return np.moveaxis(value, made.axis, 0).reshape(len(made.ids), -1)
