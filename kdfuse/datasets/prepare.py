"""What the data sets share: scaling of images, the validation share, fewer labels."""

from collections.abc import Sequence

import numpy as np

from kdfuse import labels as label_rules
from kdfuse.data import Data
from kdfuse.splits import ArraySplit

TEST_SEED = 0
"""Of the test split of sets that come without one: fixed, so that figures of all seeds compare."""


def images(
    name: str,
    arrays: dict[str, np.ndarray],
    class_names: Sequence[str],
    validation: float,
    labels: int | None,
    seed: int,
) -> Data:
    """uint8 images `x_train`, `x_test` with labels `y_train`, `y_test` as float32 `(h, w, channels)` in [0, 1] and int64 labels."""

    def scaled(x: np.ndarray) -> np.ndarray:
        return np.divide(x, np.float32(255), dtype=np.float32).reshape(*x.shape[:3], -1)

    train = scaled(arrays["x_train"]), arrays["y_train"].reshape(-1).astype(np.int64)
    test = scaled(arrays["x_test"]), arrays["y_test"].reshape(-1).astype(np.int64)
    data = Data(train, validation or None, test, name=name, class_names=class_names, seed=seed)
    return with_labels(data, labels)


def divided(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    class_names: Sequence[str],
    validation: float,
    labels: int | None,
    seed: int,
    parts: int = 5,
) -> Data:
    """A set without an official split: one row in `parts`, drawn by class and always the same, is for the test split."""
    test, rest = label_rules.draw(len(x), round(len(x) / parts), y, TEST_SEED)
    data = Data((x[rest], y[rest]), validation or None, (x[test], y[test]), name=name, class_names=class_names, seed=seed)
    return with_labels(data, labels)


def with_labels(data: Data, labels: int | None) -> Data:
    """`data` with only `labels` of its training rows, drawn by class with the data's seed; each class keeps one row at least."""
    if labels is None:
        return data
    train = data.train
    if not isinstance(train, ArraySplit) or isinstance(labels, bool) or not data.classes <= labels <= len(train):
        raise ValueError(
            f"`labels`: expected an integer from {data.classes} (one row a class) to {train.rows} (all training rows), or None. "
            f"Received: labels={labels!r}. Give a number in that range."
        )
    _, kept = label_rules.draw(len(train), len(train) - labels, label_rules.strata(train.y, data.task), data.seed)
    return data.with_splits(train=train.take(kept))
