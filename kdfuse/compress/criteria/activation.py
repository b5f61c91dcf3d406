"""Activation importance: units by their share of what their layer says on data."""

import numpy as np

from kdfuse.compress.criteria.units import Material, UnitCriterion, check_integers, combined, read_values
from kdfuse.settings import settings


@settings
class ActivationImportance(UnitCriterion):
    """A unit's share of the summed ReLU activation of its layer: `sum max(a, 0)` over rows and places, divided by that of all units.

    The activations are those that the next kernels read. For several readers it is the mean over them. Units that no kernel reads
    have no score and stay.

    Attributes:
        rows: calibration rows, at least 1.
        seed: of their draw.
    """

    rows: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        check_integers(rows=self.rows, seed=self.seed)

    def scores(self, material: Material) -> np.ndarray:
        places = {id(member): place for place, member in enumerate(material.channels.members.values())}
        return combined(
            material.channels,
            (
                ((places[id(member)], slot), ids, np.maximum(values, 0).sum(axis=1))
                for member, slot, ids, values in read_values(material, self.rows, self.seed)
            ),
        )
