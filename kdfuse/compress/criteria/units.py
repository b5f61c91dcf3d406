"""What decides which units of a layer go: the base of the criteria of shrinking."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import keras
import numpy as np

from kdfuse.compress.calibration import calibration, tensors
from kdfuse.data import Data
from kdfuse.graph.channels import Channels, Ids, Member
from kdfuse.graph.trace import watching
from kdfuse.settings import settings

Piece = tuple[tuple[int, str], Ids, np.ndarray]
"""A layer and its slot, ids of positions, and a value for each of them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """What a criterion may look at.

    Attributes:
        model: a private copy, compiled with the loss that will be trained on.
        channels: of the model.
        data: calibration rows are those of the training split.
    """

    model: keras.Model
    channels: Channels
    data: Data


@settings
class UnitCriterion:
    """Scores units: neurons, filters, attention heads. Those with the lowest scores are removed first.

    A unit may have parts in several layers, which are added or multiplied with each other or read one another: its score is the mean
    over these layers, of values that are brought to the mean 1 in each layer so that all count alike (Fang et al. 2023, DepGraph, arXiv
    2301.12900, divides by the largest ones). A subclass writes `scores`.
    """

    needs_labels: ClassVar[bool] = False
    """Whether it looks at the labels of training rows."""

    def scores(self, material: Material) -> np.ndarray:
        """A score from 0 for each root of the channels, NaN where the criterion says nothing of it."""
        raise TypeError(f"{type(self).__name__} is a family of criteria: give a subclass that has `scores`, such as L1().")


def combined(channels: Channels, pieces: Iterable[Piece], *, power: float = 1.0, normalize: bool = True) -> np.ndarray:
    """Scores of channels from values of positions.

    Args:
        channels: of a model.
        pieces: values from 0; those of one channel in one layer are summed up.
        power: of these sums: 0.5 makes norms of sums of squares.
        normalize: bring the mean of each layer's sums to 1.

    Returns:
        By root, the mean over layers; NaN where there is none.
    """
    layers: dict[tuple[int, str], list[tuple[Ids, np.ndarray]]] = {}
    for key, ids, values in pieces:
        layers.setdefault(key, []).append((channels.roots(ids).ravel(), np.asarray(values, dtype="float64").ravel()))
    count = len(channels)
    total, times = np.zeros(count), np.zeros(count)
    for found in layers.values():
        roots, values = (np.concatenate(part) for part in zip(*found, strict=True))
        sums = np.bincount(roots, weights=values, minlength=count) ** power
        here = np.unique(roots)
        mean = sums[here].mean()
        total[here] += sums[here] / mean if normalize and mean > 0 else sums[here]
        times[here] += 1
    with np.errstate(invalid="ignore"):
        return total / np.where(times > 0, times, np.nan)


def read_values(material: Material, rows: int, seed: int) -> Iterator[tuple[Member, str, Ids, np.ndarray]]:
    """What kernels read on calibration rows: a layer, its slot, ids, and values `[ids, ...]` of one call on one batch.

    These are the channels as their readers see them, after normalization and activation.
    """
    readers = {
        id(layer): (member, slot, axis)
        for member in material.channels.members.values()
        for slot, (layer, axis) in member.readers.items()
        if slot in member.slots
    }
    for x, _, _ in calibration(material.data, rows, seed):
        with watching(material.model) as calls:
            material.model(tensors(x), training=False)
        for call in calls:
            if id(call.layer) in readers:
                member, slot, axis = readers[id(call.layer)]
                value = keras.ops.convert_to_numpy(keras.tree.flatten((call.args, call.kwargs))[0]).astype("float32")
                ids = member.slots[slot]
                yield member, slot, ids, np.moveaxis(value, axis, 0).reshape(len(ids), -1)


def check_integers(**values: Any) -> None:
    """Raise unless each value is an integer of at least 1, a `seed` of at least 0."""
    for name, value in values.items():
        least = 0 if name == "seed" else 1
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"`{name}`: expected an integer of at least {least}. Received: {name}={value!r}.")
