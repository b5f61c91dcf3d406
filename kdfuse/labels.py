"""What labels mean: the task they set, the width of the output they need, and whether they fit."""

import warnings
from typing import Any

import numpy as np

from kdfuse.arrays import Structure, leaves, map_leaves, same_structure
from kdfuse.settings import choose
from kdfuse.splits import ArraySplit, Split

TASKS = ("classification", "binary", "multilabel", "regression")


def infer(y: np.ndarray) -> str:
    """The task of one output's labels.

    - integers or booleans `(n,)`: classification; so are integers with more axes (a label for each step or pixel)
    - zeros and ones in one column `(n, 1)`, or floats `(n,)` that are all 0 or 1: binary
    - rows `(n, k)` that are not negative and sum to 1 (one-hot or soft labels): classification
    - other rows of zeros and ones: multilabel
    - everything else: regression
    """
    whole = y.dtype.kind in "biu"
    column = y.ndim == 1 or y.shape[-1] == 1
    if whole and y.ndim == 1:
        return "classification"
    if column:
        if _zeros_and_ones(y):
            return "binary"
        return "classification" if whole else "regression"
    if _distributions(y):
        return "classification"
    if _zeros_and_ones(y):
        return "multilabel"
    return "classification" if whole else "regression"


def resolve(task: Any, y: Structure) -> Structure:
    """The task of each output: `task` where it says one, else what the labels say.

    Raises:
        ValueError: `task` is unknown, or has another structure than the labels.
    """
    if isinstance(task, str):
        choose("task", task, ("auto", *TASKS))
        return map_leaves(lambda labels: infer(labels) if task == "auto" else task, y)
    if not same_structure(task, y):
        expected, received = _places(y), _places(task)
        raise ValueError(
            f"`task`: expected one task for each output ({expected}). Received: {received}. Give them under the outputs' names."
        )
    known = ("auto", *TASKS)
    return map_leaves(lambda labels, one: infer(labels) if choose("task", one, known) == "auto" else one, y, task)


def is_sparse(y: np.ndarray) -> bool:
    """Whether classification labels are class numbers rather than one row of probabilities each."""
    return y.ndim == 1 or y.shape[-1] == 1 or not _distributions(y)


def width(y: np.ndarray, task: str, known: int | None = None) -> int:
    """The units that a model's last layer needs: classes for classification, else columns (1 for binary).

    Args:
        y: the training labels.
        task: what they are.
        known: the number of classes where class names say it.
    """
    if task == "binary":
        return 1
    if task == "classification" and is_sparse(y):
        if known is None and y.min() == y.max():
            warnings.warn(f"All {len(y)} training labels are class {int(y.max())}: there is nothing to learn from them.", stacklevel=2)
        return known if known is not None else max(int(y.max()) + 1, 2)
    return 1 if y.ndim == 1 else int(y.shape[-1])


def check(y: np.ndarray, task: str, classes: int, where: str, named: bool) -> None:
    """Raise `ValueError` where the labels do not fit the task and the number of classes.

    Args:
        y: labels of one output.
        task: one of `TASKS`.
        classes: what `width` gave for the training labels.
        where: how errors name the labels.
        named: whether `classes` comes from class names.
    """
    if task == "classification" and is_sparse(y):
        if y.dtype.kind == "f" and (y != np.round(y)).any():
            raise ValueError(
                f"{where}: expected class numbers or rows that sum to 1 for task 'classification'. "
                f"Received: {_range(y)} of dtype {y.dtype}. Give integer labels, one-hot rows, or `task='regression'`."
            )
        if y.min() < 0:
            raise ValueError(
                f"{where}: expected class numbers from 0. Received: {_range(y)}. Number the classes 0, 1, 2 … "
                "or say `task='regression'` if these are quantities."
            )
        if y.max() >= classes:
            source = "class names" if named else "classes in the training labels"
            raise ValueError(
                f"{where}: expected labels from 0 to {classes - 1}, by the {source}. Received: {_range(y)}. "
                "Give `class_names` for all classes, or correct the labels."
            )
        return
    if task in ("binary", "multilabel") and not (y.min() >= 0 and y.max() <= 1):
        raise ValueError(f"{where}: expected labels from 0 to 1 for task {task!r}. Received: {_range(y)}. Map the labels to 0 and 1.")
    columns = 1 if y.ndim == 1 else int(y.shape[-1])
    if columns != classes:
        raise ValueError(
            f"{where}: expected {classes} columns for task {task!r}. Received: shape {y.shape}. "
            "Give every split labels of the same kind; `class_names` must have one name a column."
        )


def strata(y: Structure, task: Structure) -> np.ndarray | None:
    """Class numbers `(n,)` by which rows can be drawn evenly, from the first output that has them; None without any."""
    for labels, one in zip((leaf for _, leaf in leaves(y)), (leaf for _, leaf in leaves(task)), strict=True):
        if labels.size == len(labels) and one in ("classification", "binary"):
            return labels.reshape(-1).round().astype(np.int64)
        if labels.ndim == 2 and one == "classification" and not is_sparse(labels):
            return labels.argmax(axis=1)
    return None


def draw(rows: int, count: int, classes: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` of `rows` row numbers, with each class in its share; a class keeps at least one row behind.

    Args:
        rows: how many there are.
        count: how many to draw.
        classes: class numbers `(rows,)`, or None to draw without regard to class.
        seed: of the draw.

    Returns:
        The drawn and the other row numbers, both in ascending order.
    """
    shuffled = np.random.default_rng(seed).permutation(rows)
    if classes is None:
        return np.sort(shuffled[:count]), np.sort(shuffled[count:])
    names, sizes = np.unique(classes, return_counts=True)
    exact = sizes * (count / rows)
    take = np.minimum(exact.astype(int), sizes - 1)
    order = np.argsort(-(exact - take), kind="stable")
    while take.sum() < count and (take < sizes - 1).any():
        for index in order:
            if take.sum() < count and take[index] < sizes[index] - 1:
                take[index] += 1
    drawn = np.concatenate([shuffled[classes[shuffled] == name][:many] for name, many in zip(names, take, strict=True)])
    return np.sort(drawn), np.setdiff1d(shuffled, drawn)


def divide(split: Split, share: float, task: Structure, seed: int) -> tuple[Split, Split]:
    """The rows of a split without and with a share set aside, by class where there are classes.

    Raises:
        ValueError: the share is not between 0 and 1 or leaves no rows on one side, or the split is a stream.
    """
    if not 0 < share < 1:
        raise ValueError(f"`validation`: expected a share between 0 and 1, or data. Received: {share}. Give for example `validation=0.1`.")
    if not isinstance(split, ArraySplit):
        raise ValueError(
            f"`validation`: expected data, as `train` is a stream. Received: the share {share}. "
            "Take a part of the stream with `.take(n)` and give it as `validation`."
        )
    count = max(1, round(len(split) * share))
    drawn, kept = draw(len(split), count, strata(split.y, task), seed)
    if not len(drawn) or not len(kept):
        raise ValueError(
            f"`validation`: expected a share that leaves rows on both sides. Received: {share} of {len(split)} rows. Give more rows."
        )
    return split.take(kept), split.take(drawn)


def _zeros_and_ones(y: np.ndarray) -> bool:
    return bool(np.logical_or(y == 0, y == 1).all())


def _distributions(y: np.ndarray) -> bool:
    if y.ndim < 2 or y.shape[-1] < 2 or y.min() < 0:
        return False
    return bool(np.allclose(y.sum(axis=-1, dtype=np.float64), 1, atol=2e-3))


def _range(y: np.ndarray) -> str:
    return f"values from {y.min()} to {y.max()}"


def _places(structure: Structure) -> str:
    return ", ".join(place or "one" for place, _ in leaves(structure))
