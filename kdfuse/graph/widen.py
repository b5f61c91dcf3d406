"""Build a model again with copies of some of its channels, which computes the same (Net2WiderNet)."""

from typing import Any

import keras
import numpy as np

from kdfuse.graph.channels import Channels, Ids, Weight, spread
from kdfuse.graph.copy import _is_container
from kdfuse.graph.families import families
from kdfuse.graph.follow import follow
from kdfuse.graph.rebuild import Rebuilt, _Rebuilding


def draw_copies(channels: Channels, width: float, seed: int = 0) -> np.ndarray:
    """How many channels each channel becomes, when every family that may change grows by a factor.

    A family of n units grows to `ceil(width * n)`. Those to copy are drawn; none is drawn again before all others were. A family of one
    unit stays, for it may be broadcast.

    Args:
        channels: of a model.
        width: at least 1.
        seed: from 0.

    Returns:
        A number for each root, 1 for those that stay as they are.
    """
    copies, rng = np.ones(len(channels), dtype=np.int64), np.random.default_rng(seed)
    for family in families(channels):
        count = len(family.roots)
        more = int(np.ceil(width * count - 1e-9)) - count if count > 1 else 0
        while more > 0:
            drawn = rng.permutation(family.roots)[:more]
            copies[drawn] += 1
            more -= len(drawn)
    return copies


def widen(model: keras.Model, channels: Channels, copies: np.ndarray, noise: float = 0.0, seed: int = 0) -> Rebuilt:
    """The model with several copies of some channels; the original is only read.

    A copy has the incoming weights of its original. The weights that read a channel are divided by the number of its copies: the model
    computes the same, but for the noise.

    Args:
        model: what `channels` was made from.
        channels: of the model.
        copies: of `draw_copies`.
        noise: standard deviation of what is added to a copy's incoming weights, as a share of the deviation of the whole kernel. The first
            of the copies gets none.
        seed: of the noise, from 0.

    Returns:
        A plain model of the same layer names, not compiled.

    Raises:
        ValueError: the copies of some channels cannot be told apart behind a layer.
    """
    making = _Widening(model, channels, copies, noise, np.random.default_rng([seed, 1]))
    return Rebuilt(making.whole(model), {known: twin for known, (_, twin) in making.memo.items()})


class _Widening(_Rebuilding):
    """Channels of the new model are found by following it too: each is known by its original and the number of its copy.

    Order alone would not do: copies lie side by side where a layer makes them, but not behind a depthwise convolution of several filters
    for each channel, or behind a flattened tensor whose channels come first.
    """

    def __init__(self, model: keras.Model, channels: Channels, copies: np.ndarray, noise: float, rng: np.random.Generator) -> None:
        super().__init__(channels, lambda ids: copies[channels.roots(ids)])
        self.given, self.copies, self.noise, self.rng = model, copies, noise, rng
        self.wide = channels
        self.weights: dict[int, Weight] = {}

    def model(self, model: Any) -> Any:
        made = super().model(model)
        if model is self.given:
            self.wide = follow(made)
            self.weights = {id(weight.variable): weight for member in self.wide.members.values() for weight in member.weights}
            self.origin, self.number = (np.full(len(self.wide), start, dtype=np.int64) for start in (-1, 0))
            self.label()
        return made

    def label(self) -> None:
        """Find the original channel, and the number of the copy, of the new model's roots that layers make."""
        slots = []
        for original, twin in self.memo.values():
            if isinstance(original, keras.Layer) and not _is_container(original):
                for part, twin_part in zip(original._flatten_layers(), twin._flatten_layers(), strict=True):
                    member, other = self.channels.members.get(id(part)), self.wide.members.get(id(twin_part))
                    if member is not None and other is not None:
                        slots += [(self.channels.roots(member.slots[slot]), self.wide.roots(other.slots[slot])) for slot in member.made]
        for known, roots in sorted(slots, key=lambda pair: len(np.unique(pair[0])) < len(pair[0])):  # where order is sure first
            count = self.copies[known]
            number = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            new = self.origin[roots] < 0
            self.number[roots[new]], self.origin[roots[new]] = number[new], np.repeat(known, count)[new]
        self.labelled = np.unique(self.origin[self.origin >= 0])

    def index(self, weight: Weight, ids: Ids, wide: Ids) -> tuple[np.ndarray, np.ndarray]:
        """For each position of the new model the position in the original, and the number of the copy."""
        known, roots = self.channels.roots(ids), self.wide.roots(wide)
        origin, number = self.origin[roots], self.number[roots]
        closed, unknown = ~np.isin(known, self.labelled), origin < 0
        fits = len(wide) == self.copies[known].sum() and closed.sum() == unknown.sum()
        if fits:
            origin[unknown], number[unknown] = known[closed], 0  # what no layer makes has no copies and keeps its order
            order, place = np.argsort(known, kind="stable"), _occurrence(origin * (self.copies.max() + 1) + number)
            start = np.searchsorted(known[order], origin) + place
            index = order[np.minimum(start, len(order) - 1)]
            fits = bool((start < len(order)).all() and (known[index] == origin).all())
        if not fits:
            raise ValueError(
                f"`model`: cannot copy what {weight.variable.path} reads or makes, for the copies lie in no known order. Name the layers "
                "that make its channels in `protect`."
            )
        return index, number

    def value(self, weight: Weight, value: np.ndarray, twin: keras.Variable) -> np.ndarray:
        other = self.weights[id(twin)]
        value = value if value.dtype == np.float64 else value.astype("float32")
        scale = float(value.std()) * self.noise if weight.is_kernel else 0.0
        copied = []
        for axis, (_, role, ids) in sorted(weight.axes.items(), key=lambda pair: pair[1].ids.ndim, reverse=True):
            wide = other.axes[axis].ids
            if ids.ndim == 2:  # each group of outputs reads inputs of its own
                found = [self.index(weight, *pair)[0] for pair in zip(ids, wide, strict=True)]
                blocks = zip(np.split(value, len(ids), axis=-1), ids, found, strict=True)
                value = np.concatenate([_shared(block, -2, index, self.stays(row)) for block, row, index in blocks], axis=-1)
                continue
            index, number = self.index(weight, ids, wide)
            value = _shared(value, axis, index, self.stays(ids) if role == "in" else None)
            if role == "out" and scale:
                copied.append((axis, number > 0))
        for axis, new in copied:
            value = value + spread(other, axis, new) * self.rng.normal(0, scale, value.shape).astype(value.dtype)
        return value


def _shared(value: np.ndarray, axis: int, index: np.ndarray, count: np.ndarray | None) -> np.ndarray:
    """The entries of an axis at `index`, divided by how often each one's channel is there."""
    value = np.take(value, index, axis=axis)
    if count is None:
        return value
    shape = [1] * value.ndim
    shape[axis] = -1
    return value / count[index].astype(value.dtype).reshape(shape)


def _occurrence(keys: np.ndarray) -> np.ndarray:
    """For each key how many equal ones come before it."""
    order = np.argsort(keys, kind="stable")
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[order] = np.arange(len(keys)) - np.searchsorted(keys[order], keys[order])
    return ranks
