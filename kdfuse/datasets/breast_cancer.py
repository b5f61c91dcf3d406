"""Breast cancer Wisconsin (diagnostic): 569 tumours with 30 measures, bundled with scikit-learn."""

import numpy as np

from kdfuse.data import Data
from kdfuse.datasets.prepare import divided
from kdfuse.splits import ArraySplit, Split


def load_breast_cancer(validation: float = 0.25, labels: int | None = None, seed: int = 0) -> Data:
    """Inputs `(30,)` float32, standardised by mean and deviation of the training rows alone; labels 0 malignant, 1 benign.

    The set has no official split. A fifth of the rows is the test split, drawn by class and the same for every seed; by default a
    quarter of the rest is for validation: 60/20/20 in all.

    Args:
        validation: share of the training rows to set aside, 0 for none.
        labels: keep only so many training rows, drawn by class; None for all. The rows that are left standardise.
        seed: of both draws.

    Reference: Street, Wolberg and Mangasarian 1993, UCI "Breast Cancer Wisconsin (Diagnostic)".
    """
    from sklearn.datasets import load_breast_cancer as bundled

    x, y = bundled(return_X_y=True)
    data = divided("breast_cancer", x.astype(np.float32), y.astype(np.int64), ["malignant", "benign"], validation, labels, seed)
    train = data.train.head(data.train.rows or 0)[0].astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1

    def standardised(split: Split | None) -> Split | None:
        if not isinstance(split, ArraySplit):
            return split
        return ArraySplit((split.x - mean) / deviation, split.y)

    return data.with_splits(train=standardised(data.train), validation=standardised(data.validation), test=standardised(data.test))
