"""Threshold: all weights below a magnitude go, however many they are."""

import numpy as np

from kdfuse.compress.criteria.weights import WeightCriterion
from kdfuse.settings import choose, settings

UNITS = ("absolute", "std")


@settings
class Threshold(WeightCriterion):
    """Weights with `|w|` below a threshold go: `Prune(criterion=Threshold(1e-2))` takes no sparsity.

    Attributes:
        value: the threshold, above 0.
        unit: `absolute`, or `std`: in standard deviations of the kernel's weights that are not zero (Han et al. 2015, arXiv 1506.02626).
    """

    value: float
    unit: str = "absolute"

    def __post_init__(self) -> None:
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if not number or not 0 < self.value < float("inf"):
            raise ValueError(f"`value` of Threshold: expected a number above 0. Received: value={self.value!r}.")
        choose("unit", self.unit, UNITS)

    def scores(self, weights: np.ndarray, measured: np.ndarray | None) -> np.ndarray:
        return np.abs(weights)

    def cut(self, weights: np.ndarray) -> float:
        if self.unit == "absolute":
            return float(self.value)
        present = weights[weights != 0]
        return float(self.value) * float(present.std(dtype=np.float64)) if present.size else float(self.value)
