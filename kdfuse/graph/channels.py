"""Channels of a functional graph: which positions of which weights belong to one unit, and which must stay together."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

Ids = np.ndarray
Count = Callable[[str], int]
"""How many channels of a slot stay."""


class Trail(NamedTuple):
    """Where a tensor's channels come from.

    Attributes:
        axis: of channels; the batch axis is 0.
        ids: one for each position along it.
        value: the constant of each channel, NaN where it has none; None where nobody asked.
    """

    axis: int
    ids: Ids
    value: np.ndarray | None = None


class Axis(NamedTuple):
    """What the positions along one axis of a weight are.

    Attributes:
        slot: the layer's own name for these channels: `in`, `out`, `heads`.
        role: `out` where a position holds the incoming weights of a unit, `in` where it holds the outgoing ones, `own` where the layer
            passes channels on (BatchNorm, depthwise kernels).
        ids: one id for each position; `[groups, positions]` for a grouped convolution's inputs.
    """

    slot: str
    role: str
    ids: Ids


@dataclasses.dataclass(eq=False)
class Weight:
    """A variable and the channels along its axes, by axis number."""

    variable: keras.Variable
    axes: dict[int, Axis]

    @property
    def is_kernel(self) -> bool:
        """Whether it multiplies: not a bias or a statistic."""
        return len(self.variable.shape) > 1


@dataclasses.dataclass(eq=False)
class Member:
    """A layer or operation whose sizes depend on channels.

    Attributes:
        layer: of the graph.
        path: its name, after those of the nested models around it.
        slots: ids by slot, those of several uses united.
        made: the slots whose units this layer makes.
        weights: its weights.
        resize: changes its config to the counts that stay.
        readers: for a slot that kernels read, the layer inside whose call has it as first input, and the axis.
    """

    layer: Any
    path: str
    slots: dict[str, Ids] = dataclasses.field(default_factory=dict)
    made: tuple[str, ...] = ()
    weights: list[Weight] = dataclasses.field(default_factory=list)
    resize: Callable[[Any, Count], None] | None = None
    readers: dict[str, tuple[Any, int]] = dataclasses.field(default_factory=dict)


class NotFollowed(Exception):
    """Channels cannot be followed through a layer; the text says why."""


class Channels:
    """Ids of channels, united where they can only stay or go together.

    Attributes:
        members: layers with sizes to change, by `id`.
        blocks: ids `[groups, positions]` of which each row must keep as many as the others.
        inputs: trails of the inputs of each nested graph, by `id` of the model.
        visit: called after each step with what was used and the trails it gave; what it returns goes on.
    """

    def __init__(self, visit: Callable[[Any, list[Trail | None]], list[Trail | None]] | None = None) -> None:
        self.visit = visit
        self.members: dict[int, Member] = {}
        self.blocks: list[Ids] = []
        self.inputs: dict[int, list[Trail | None]] = {}
        self._parent: list[int] = []
        self._reasons: dict[int, str] = {}
        self._first: dict[int, str] = {}
        self._table: Ids | None = None

    def __len__(self) -> int:
        """How many ids there are; roots are among them."""
        return len(self._parent)

    def new(self, count: int) -> Ids:
        """Fresh ids."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        self._table = None
        return np.arange(first, first + count)

    def unite(self, one: Ids, other: Ids) -> None:
        """Make the ids at equal positions one channel."""
        if one.shape != other.shape:
            raise NotFollowed(f"it joins {one.size} channels with {other.size}")
        for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
            first, second = self._find(a), self._find(b)
            if first != second:
                self._parent[max(first, second)] = min(first, second)
                self._table = None

    def protect(self, ids: Ids | None, reason: str, *, first: bool = False) -> None:
        """These channels stay; `first`: this reason is told rather than one that is known already."""
        for one in [] if ids is None else np.unique(ids).tolist():
            (self._first if first else self._reasons).setdefault(one, reason)

    def roots(self, ids: Ids) -> Ids:
        """The number of each id's channel: equal for ids that are united."""
        if self._table is None:
            table = np.array(self._parent, dtype=np.int64)
            while not np.array_equal(table, further := table[table]):
                table = further
            self._table = table
        return self._table[ids]

    @property
    def reasons(self) -> dict[int, str]:
        """Why channels are protected, by root."""
        found: dict[int, str] = {}
        for one, reason in (*self._first.items(), *self._reasons.items()):
            found.setdefault(self._find(one), reason)
        return found

    def slot(self, member: Member, name: str, ids: Ids) -> Ids:
        """The ids of a member's slot; further uses of a shared layer are united with the first."""
        known = member.slots.setdefault(name, ids)
        if known is not ids:
            self.unite(known, ids)
        return known

    def made(self, member: Member, name: str, count: int) -> Ids:
        """The ids of units that a layer makes, the same at each of its uses."""
        if name not in member.slots:
            member.slots[name] = self.new(count)
            member.made += (name,)
        return member.slots[name]

    def stay(self, gone: Iterable[int]) -> Callable[[Ids], np.ndarray]:
        """A function that says for ids whether their channels stay when the roots `gone` are removed."""
        removed = np.zeros(len(self._parent), dtype=bool)
        removed[list(gone)] = True
        return lambda ids: ~removed[self.roots(ids)]

    def _find(self, one: int) -> int:
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one


def rows(weight: Weight, axis: int, value: np.ndarray) -> tuple[Ids, np.ndarray]:
    """Values of a weight's shape as one row for each position along `axis`.

    Args:
        weight: of a member.
        axis: one of `weight.axes`.
        value: of the weight's shape.

    Returns:
        Ids `[positions]` and rows `[positions, ...]`.
    """
    ids = weight.axes[axis].ids
    if ids.ndim == 2:
        groups, count = ids.shape
        split = value.reshape(*value.shape[:-1], groups, -1)
        return ids.ravel(), np.moveaxis(split, (-2, -3), (0, 1)).reshape(groups * count, -1)
    return ids, np.moveaxis(value, axis, 0).reshape(len(ids), -1)


def spread(weight: Weight, axis: int, per_position: np.ndarray) -> np.ndarray:
    """One number for each id of `axis` (of its ids' shape), broadcast to the weight's shape."""
    shape = tuple(weight.variable.shape)
    if per_position.ndim == 2:
        block = shape[-1] // len(per_position)
        last = np.repeat(per_position.T, block, axis=1)
        return np.broadcast_to(last.reshape((1,) * (len(shape) - 2) + last.shape), shape)
    return np.broadcast_to(per_position.reshape([-1 if place == axis else 1 for place in range(len(shape))]), shape)


def taken(weight: Weight, value: np.ndarray, stays: Callable[[Ids], np.ndarray]) -> np.ndarray:
    """The part of a weight's value that belongs to the channels that stay."""
    for _, _, ids in weight.axes.values():
        if ids.ndim == 2:  # each group of outputs reads inputs of its own
            blocks = np.split(value, len(ids), axis=-1)
            parts = [block[..., kept, :] for block, kept in zip(blocks, stays(ids), strict=True)]
            value = np.concatenate(parts, axis=-1)
    for axis, (_, _, ids) in weight.axes.items():
        if ids.ndim == 1:
            value = np.compress(stays(ids), value, axis=axis)
    return value
