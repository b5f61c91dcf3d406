"""APoZ: units by how often they say nothing."""

import numpy as np

from kdfuse.compress.criteria.units import Material, UnitCriterion, check_integers, combined, read_values
from kdfuse.settings import settings


@settings
class APoZ(UnitCriterion):
    """One minus the average percentage of zeros of a unit's activations after ReLU, over rows and places: `1 - mean(a <= 0)`.

    The activations are those that the next kernels read. For several readers, and for several positions of a channel in one reader, it is
    the mean over them. Units that no kernel reads have no score and stay.

    Hu et al. 2016, Network Trimming, arXiv 1607.03250.

    Attributes:
        rows: calibration rows, at least 1.
        seed: of their draw.
    """

    rows: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        check_integers(rows=self.rows, seed=self.seed)

    def scores(self, material: Material) -> np.ndarray:
        channels = material.channels
        places = {id(member): place for place, member in enumerate(channels.members.values())}
        counted: dict[tuple[int, str], list[np.ndarray]] = {}
        for member, slot, ids, values in read_values(material, self.rows, self.seed):
            alive, seen = counted.setdefault((places[id(member)], slot), [np.zeros(len(channels)), np.zeros(len(channels))])
            roots = channels.roots(ids)
            np.add.at(alive, roots, (values > 0).sum(axis=1))
            np.add.at(seen, roots, values.shape[1])
        pieces = []
        for key, (alive, seen) in counted.items():
            here = np.flatnonzero(seen)
            pieces.append((key, here, alive[here] / seen[here]))
        return combined(channels, pieces, normalize=False)
