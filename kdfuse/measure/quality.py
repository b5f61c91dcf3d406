"""Quality: accuracy, F1, log loss and calibration, or errors of a regression, of outputs against targets."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics

from kdfuse.graph.heads import probabilities
from kdfuse.settings import choose

TASKS = ("classification", "binary", "multilabel", "regression")
BINS = 15


def quality(outputs: Any, targets: Any, head: str, task: str, sample_weight: Any = None) -> dict[str, float]:
    """The figures of one output of a model. A figure that cannot be computed is left out, never 0.

    Args:
        outputs: what the model gave: `[rows, ..., classes]`, or `[rows, ..., columns]`.
        targets: class numbers `[rows, ...]` (also with a last axis of 1), one-hot or soft rows like `outputs`, zeros and ones for
            binary and multilabel, values for a regression. Steps `[rows, time]` count one by one.
        head: one of `kdfuse.graph.heads.HEADS`.
        task: `"classification"`, `"binary"`, `"multilabel"` or `"regression"`.
        sample_weight: None, weights `[rows]`, or a weight or mask for each step `[rows, time]`.

    Returns:
        Classification: `accuracy`, `macro_f1` (over the classes that appear in targets or predictions), `log_loss`, `ece`
        (15 bins). Multilabel: the same over all cells, `macro_f1` over the columns. Regression: `mae`, `rmse`, `r2`.

    Raises:
        ValueError: NaN or infinity in the outputs or targets, or shapes that do not fit.
    """
    choose("task", task, TASKS)
    values, truth = _numbers("outputs", outputs), _numbers("targets", targets)
    if not len(values):
        raise ValueError("`outputs`: expected at least one row. Received: none.")
    if task == "regression":
        return _regression(values, truth, sample_weight)
    chances = probabilities(values, head)
    if task == "multilabel":
        return _multilabel(chances, truth, sample_weight)
    chances, labels, weights = flat_classes(chances, truth, sample_weight)
    guesses = chances.argmax(axis=-1)
    found = {"accuracy": float(metrics.accuracy_score(labels, guesses, sample_weight=weights))}
    found["macro_f1"] = float(metrics.f1_score(labels, guesses, average="macro", zero_division=0.0, sample_weight=weights))
    found["log_loss"] = _log_loss(labels, chances, weights)
    found["ece"] = calibration_error(chances.max(axis=-1), guesses == labels, weights)
    return found


def agreement(outputs_a: Any, head_a: str, outputs_b: Any, head_b: str) -> float | None:
    """The share of rows for which two models choose the same class; None where one of them is a regression.

    Args:
        outputs_a: what the first gave.
        head_a: its head.
        outputs_b: what the second gave on the same rows.
        head_b: its head.
    """
    if "regression" in (head_a, head_b):
        return None
    first, second = (decisions(outputs, head) for outputs, head in ((outputs_a, head_a), (outputs_b, head_b)))
    if first.shape != second.shape:
        raise ValueError(f"`outputs_b`: expected decisions of shape {first.shape}, as of `outputs_a`. Received: {second.shape}.")
    return float((first == second).mean())


def confusion(outputs: Any, targets: Any, head: str, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """How often each class was taken for each other one.

    Args:
        outputs: what the model gave: `[rows, ..., classes]`, or one column for two classes.
        targets: class numbers, or one-hot rows.
        head: one of `kdfuse.graph.heads.HEADS`, not `"regression"`.
        names: of the classes; their numbers by default.

    Returns:
        A row for each true class: `{"true": "cat", "cat": 41, "dog": 2}`, the counts by the class that was predicted. Where a class is
        called `true`, the first key is `class`.
    """
    chances, labels, _ = flat_classes(probabilities(_numbers("outputs", outputs), head), _numbers("targets", targets), None)
    count = chances.shape[-1]
    called = [str(name) for name in names or ()]
    if len(set(called)) != count or len(called) != count:
        called = [str(place) for place in range(count)]
    table = metrics.confusion_matrix(labels, chances.argmax(axis=-1), labels=range(count))
    head = next(key for key in ("true", "class", "label", "") if key not in called)
    return [{head: name, **{guess: int(number) for guess, number in zip(called, row, strict=True)}}
            for name, row in zip(called, table, strict=True)]  # fmt: skip


def decisions(outputs: Any, head: str) -> np.ndarray:
    """The class chosen for each row, or yes and no in each column of independent ones."""
    chances = probabilities(_numbers("outputs", outputs), head)
    if head in ("sigmoid", "sigmoid_logits") or chances.ndim == 1 or chances.shape[-1] == 1:
        yes = chances > 0.5
        return yes[..., 0] if yes.ndim > 1 and yes.shape[-1] == 1 else yes
    return chances.argmax(axis=-1)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Expected calibration error with 15 bins `(i/15, (i+1)/15]` of equal width: sum of |accuracy - confidence| by share.

    Reference: Guo et al., 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599, equation 3.

    Args:
        confidence: the probability of the chosen class `[rows]`, in [0, 1].
        correct: whether it was the right one `[rows]`.
        weights: None, or a weight for each row.
    """
    shares = np.ones(len(confidence)) if weights is None else np.asarray(weights, dtype="float64")
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=shares * (np.asarray(correct, dtype="float64") - confidence), minlength=BINS)
    return float(np.abs(gaps).sum() / shares.sum())


def _numbers(argument: str, values: Any) -> np.ndarray:
    array = np.asarray(values.numpy() if hasattr(values, "numpy") else values)
    if array.dtype.kind not in "fiub":
        array = array.astype("float32")  # bfloat16
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array))[0][0])
        count = int((~np.isfinite(array.reshape(len(array), -1))).any(axis=1).sum())
        mend = "The model has diverged or its weights are damaged." if argument == "outputs" else "Remove or fill these rows."
        raise ValueError(
            f"`{argument}`: expected finite values. Received: NaN or infinity in {count} of {len(array)} rows, first in row {bad}. {mend}"
        )
    return array


def flat_classes(chances: np.ndarray, truth: np.ndarray, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows of class probabilities, class numbers and weights, one for each row or step that counts.

    Args:
        chances: probabilities `[rows, ..., classes]`, or of "yes" `[rows]` or `[rows, ..., 1]`.
        truth: class numbers, or one-hot rows.
        sample_weight: None, or weights `[rows]` or like the class numbers.
    """
    if chances.ndim == 1 or chances.shape[-1] == 1:
        yes = chances if chances.ndim == 1 else chances[..., 0]
        chances = np.stack([1.0 - yes, yes], axis=-1)
        if truth.ndim == chances.ndim and truth.shape[-1] == 2:
            truth = truth.argmax(axis=-1)
        places = truth[..., 0] if truth.ndim == chances.ndim and truth.shape[-1] == 1 else truth
    elif truth.shape == chances.shape:
        places = truth.argmax(axis=-1)
    else:
        places = truth[..., 0] if truth.ndim == chances.ndim and truth.shape[-1] == 1 else truth
    if places.shape != chances.shape[:-1]:
        raise ValueError(
            f"`targets`: expected class numbers of shape {chances.shape[:-1]} or one-hot rows of shape {chances.shape}. "
            f"Received: {truth.shape}."
        )
    weights = _weights(sample_weight, places.shape)
    labels, classes = places.reshape(-1), chances.shape[-1]
    chances = chances.reshape(-1, classes)
    if weights is not None:
        # Steps that a mask takes out may hold any label, -1 for example.
        kept = weights > 0
        chances, labels, weights = chances[kept], labels[kept], weights[kept]
    if (labels != np.round(labels)).any() or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"`targets`: expected class numbers 0 to {classes - 1}. Received: {labels.min()} to {labels.max()}.")
    sums = chances.sum(axis=-1, keepdims=True)
    if (sums <= 0).any():
        raise ValueError("`outputs`: expected probabilities. Received: rows that are all 0. Give the head of the model.")
    return chances / sums, labels.astype(int), weights


def _weights(sample_weight: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if sample_weight is None:
        return None
    weights = _numbers("sample_weight", sample_weight).astype("float64")
    while weights.ndim > len(shape) and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if weights.shape != shape[: weights.ndim]:
        raise ValueError(f"`sample_weight`: expected the shape {shape[:1]} or {shape}. Received: {weights.shape}.")
    weights = np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape).reshape(-1)
    if weights.min() < 0 or weights.sum() <= 0:
        received = "negative ones" if weights.min() < 0 else "zeros"
        raise ValueError(f"`sample_weight`: expected weights of at least 0, not all of them 0. Received: {received}.")
    return weights


def _log_loss(labels: np.ndarray, chances: np.ndarray, weights: np.ndarray | None) -> float:
    return float(metrics.log_loss(labels, chances, labels=list(range(chances.shape[-1])), sample_weight=weights))


def _multilabel(chances: np.ndarray, truth: np.ndarray, sample_weight: Any) -> dict[str, float]:
    if truth.shape != chances.shape:
        raise ValueError(f"`targets`: expected zeros and ones of shape {chances.shape}. Received: {truth.shape}.")
    if ((truth != 0) & (truth != 1)).any():
        raise ValueError("`targets`: expected zeros and ones for a multilabel task. Received: other values.")
    columns = chances.shape[-1]
    weights = _weights(sample_weight, chances.shape[:-1])
    chances, truth = chances.reshape(-1, columns), truth.reshape(-1, columns).astype(int)
    if weights is not None:
        chances, truth, weights = chances[weights > 0], truth[weights > 0], weights[weights > 0]
    guesses = (chances > 0.5).astype(int)
    scores = [metrics.f1_score(truth[:, i], guesses[:, i], zero_division=0.0, sample_weight=weights) for i in range(columns)
              if truth[:, i].any() or guesses[:, i].any()]  # fmt: skip
    cells = None if weights is None else np.repeat(weights, columns)
    yes, labels = chances.reshape(-1), truth.reshape(-1)
    found = {"accuracy": float(metrics.accuracy_score(labels, guesses.reshape(-1), sample_weight=cells))}
    if scores:
        found["macro_f1"] = float(np.mean(scores))
    both = np.stack([1.0 - yes, yes], axis=-1)
    found["log_loss"] = _log_loss(labels, both, cells)
    found["ece"] = calibration_error(both.max(axis=-1), (yes > 0.5) == labels, cells)
    return found


def _regression(values: np.ndarray, truth: np.ndarray, sample_weight: Any) -> dict[str, float]:
    if values.ndim == truth.ndim + 1 and values.shape[-1] == 1:
        truth = truth[..., None]
    if truth.ndim == values.ndim + 1 and truth.shape[-1] == 1:
        values = values[..., None]
    if values.shape != truth.shape:
        raise ValueError(f"`targets`: expected values of shape {values.shape}. Received: {truth.shape}.")
    columns = 1 if values.ndim == 1 else values.shape[-1]
    places = values.shape if values.ndim == 1 else values.shape[:-1]
    weights = _weights(sample_weight, places)
    guess, true = values.reshape(-1, columns).astype("float64"), truth.reshape(-1, columns).astype("float64")
    if weights is not None:
        guess, true, weights = guess[weights > 0], true[weights > 0], weights[weights > 0]
    found = {
        "mae": float(metrics.mean_absolute_error(true, guess, sample_weight=weights)),
        "rmse": float(metrics.mean_squared_error(true, guess, sample_weight=weights) ** 0.5),
    }
    # Without variance in the targets R2 is not defined.
    if len(true) > 1 and (true.min(axis=0) < true.max(axis=0)).all():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found["r2"] = float(metrics.r2_score(true, guess, sample_weight=weights))
    return found
