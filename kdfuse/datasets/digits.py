"""Digits: 1,797 handwritten digits of 8x8 pixels, bundled with scikit-learn."""

import numpy as np

from kdfuse.data import Data
from kdfuse.datasets.prepare import divided


def load_digits(validation: float = 0.25, labels: int | None = None, seed: int = 0) -> Data:
    """Inputs `(8, 8, 1)` float32 in [0, 1] (the 17 grey levels over 16), labels 0 to 9.

    The set has no official split. A fifth of the rows is the test split, drawn by class and the same for every seed; by default a
    quarter of the rest is for validation: 60/20/20 in all.

    Args:
        validation: share of the training rows to set aside, 0 for none.
        labels: keep only so many training rows, drawn by class; None for all.
        seed: of both draws.

    Reference: Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits" (the test part).
    """
    from sklearn.datasets import load_digits as bundled

    x, y = bundled(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return divided("digits", x, y.astype(np.int64), [str(digit) for digit in range(10)], validation, labels, seed)
