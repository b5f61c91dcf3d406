"""L1 and L2: units by the norm of their weights."""

from collections.abc import Iterator

import keras
import numpy as np

from kdfuse.compress.criteria.units import Material, Piece, UnitCriterion, combined
from kdfuse.graph.channels import rows
from kdfuse.settings import choose, settings

DIRECTIONS = {"incoming": ("out", "own"), "outgoing": ("in",), "both": ("out", "own", "in")}


@settings
class _Norm(UnitCriterion):
    direction: str = "both"

    def __post_init__(self) -> None:
        choose("direction", self.direction, DIRECTIONS)


@settings
class L1(_Norm):
    """The sum of the absolute weights of a unit's kernels, without biases.

    Li et al. 2017, Pruning Filters for Efficient ConvNets, arXiv 1608.08710 (`incoming`).

    Attributes:
        direction: `incoming`, the weights that make the unit (a filter); `outgoing`, those that read it; or `both`.
    """

    def scores(self, material: Material) -> np.ndarray:
        return combined(material.channels, _pieces(material, DIRECTIONS[self.direction], 1))


@settings
class L2(_Norm):
    """The Euclidean norm of the weights of a unit's kernels, without biases.

    He et al. 2018, Soft Filter Pruning, arXiv 1808.06866 (`incoming`); over all layers of a group, Fang et al. 2023, arXiv 2301.12900.

    Attributes:
        direction: `incoming`, the weights that make the unit (a filter); `outgoing`, those that read it; or `both`.
    """

    def scores(self, material: Material) -> np.ndarray:
        return combined(material.channels, _pieces(material, DIRECTIONS[self.direction], 2), power=0.5)


def _pieces(material: Material, roles: tuple[str, ...], power: int) -> Iterator[Piece]:
    for place, member in enumerate(material.channels.members.values()):
        for weight in member.weights:
            for axis, kind in weight.axes.items():
                if weight.is_kernel and kind.role in roles:
                    value = np.abs(keras.ops.convert_to_numpy(weight.variable).astype("float64")) ** power
                    ids, values = rows(weight, axis, value)
                    yield (place, f"{kind.slot} {kind.role}"), ids, values.sum(axis=1)
