"""Random: units by lot, the baseline of every criterion."""

import numpy as np

from kdfuse.compress.criteria.units import Material, UnitCriterion, check_integers
from kdfuse.settings import settings


@settings
class RandomImportance(UnitCriterion):
    """Uniform random scores.

    Attributes:
        seed: from 0.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        check_integers(seed=self.seed)

    def scores(self, material: Material) -> np.ndarray:
        return np.random.default_rng(self.seed).random(len(material.channels))
