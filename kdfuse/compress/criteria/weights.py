"""What decides which weights of a kernel go: the base of the criteria of pruning."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from kdfuse.compress.kernels import Kernel
from kdfuse.data import Data
from kdfuse.settings import settings

Measured = list[np.ndarray | None]


@settings
class WeightCriterion:
    """Scores weights: those with the lowest scores are pruned.

    A subclass writes `scores`, and `measure` where it needs more than the weights.
    """

    scope: ClassVar[str] = "layer"
    """Among which weights the lowest are looked for, where `Prune(scope="auto")`."""

    def measure(self, model: keras.Model, kernels: Sequence[Kernel], data: Data) -> Measured:
        """What is needed of each kernel beside its weights, once before training: an array or None.

        Args:
            model: the private copy, which is only read.
            kernels: in its layers.
            data: calibration rows are those of the training split.
        """
        return [None] * len(kernels)

    def scores(self, weights: np.ndarray, measured: np.ndarray | None) -> np.ndarray:
        """Scores from 0, of the shape of the weights.

        Args:
            weights: `[positions, inputs, outputs]`.
            measured: what `measure` gave for this kernel.
        """
        raise TypeError(f"{type(self).__name__} is a family of criteria: give a subclass that has `scores`, such as Magnitude().")

    def cut(self, weights: np.ndarray) -> float | None:
        """The score below which weights go whatever the sparsity; None where a sparsity decides."""
        return None

    def note(self, kernel: Kernel, measured: Any) -> str:
        """What a reader of the report's table should know of this kernel."""
        return ""
