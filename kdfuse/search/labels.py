"""Labels: what scikit-learn calls classes, as the numbers that Keras trains on, and back."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d


class Labels(NamedTuple):
    """Labels as numbers.

    Attributes:
        task: `classification`, or `multilabel` for an indicator matrix.
        classes: the labels in sorted order; of a matrix the numbers of its columns.
        codes: class numbers `(rows,)`, or the matrix of zeros and ones.
        names: of the classes, all different.
    """

    task: str
    classes: np.ndarray
    codes: np.ndarray
    names: tuple[str, ...]


def encode(y: Any, owner: str, sample_weight: np.ndarray | None = None) -> Labels:
    """Labels of a classifier as numbers.

    Args:
        y: labels of any sortable type `(rows,)`, also as one column, or an indicator matrix `(rows, labels)`.
        owner: how errors call the estimator.
        sample_weight: None, or a weight for each row.

    Raises:
        ValueError: values that are no classes, classes in several columns, or a single class.
    """
    if hasattr(y, "toarray"):
        y = y.toarray()
    check_classification_targets(y)
    matrix = np.asarray(y)
    if type_of_target(y, input_name="y") == "multilabel-indicator" and np.isin(matrix, (0, 1)).all():
        columns = np.arange(matrix.shape[1])
        return Labels("multilabel", columns, matrix.astype("float32"), tuple(map(str, columns)))
    if matrix.ndim == 2 and matrix.shape[1] > 1:
        raise ValueError(
            f"`y` of {owner}: expected class labels of shape (rows,) or a matrix of zeros and ones. Received: shape {matrix.shape} "
            "with other values. Fit one classifier for each column: sklearn.multioutput.MultiOutputClassifier."
        )
    classes, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
    present = len(classes) if sample_weight is None else len(np.unique(codes[sample_weight > 0]))
    if present < 2:
        which = "" if sample_weight is None else " among the rows whose weight is not zero"
        raise ValueError(f"`y` of {owner}: expected at least two classes. Received: one class{which}. There is nothing to learn from it.")
    return Labels("classification", classes, codes, tuple(map(str, classes)))


def per_class(chances: np.ndarray, task: str) -> np.ndarray:
    """One column of probabilities for each class, from what a model of this task tells.

    Args:
        chances: `(rows, columns)`; of two classes also one column, the probability of the second.
        task: `classification` or `multilabel`.
    """
    chances = chances.reshape(len(chances), -1)
    if task == "multilabel":
        return chances
    if chances.shape[1] == 1:
        return np.hstack([1 - chances, chances])
    return chances / chances.sum(axis=1, keepdims=True)  # a softmax in float32 sums to 1 only nearly


def decode(chances: np.ndarray, task: str, classes: np.ndarray) -> Any:
    """The labels that probabilities stand for: the most probable class, or zeros and ones for each column."""
    if task == "multilabel":
        return (chances > 0.5).astype(np.int64)
    return classes[chances.argmax(axis=1)]
