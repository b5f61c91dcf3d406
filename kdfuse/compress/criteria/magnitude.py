"""Magnitude: the smallest weights go."""

import numpy as np

from kdfuse.compress.criteria.weights import WeightCriterion
from kdfuse.settings import settings


@settings
class Magnitude(WeightCriterion):
    """The score of a weight is `|w|`. Han et al. 2015 (arXiv 1506.02626), Zhu and Gupta 2017 (arXiv 1710.01878)."""

    def scores(self, weights: np.ndarray, measured: np.ndarray | None) -> np.ndarray:
        return np.abs(weights)
