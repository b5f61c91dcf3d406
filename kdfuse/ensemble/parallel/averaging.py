"""Averages in weight space."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.measure.measure import parts_of, told
from kdfuse.measure.predict import one_pass
from kdfuse.report import QUALITY


def mean_weights(models: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """The mean of each weight; integers, such as the state of a random generator, are those of the first model.

    Args:
        models: the weights of each, equal in number and shape.
    """
    return [
        np.mean(np.stack(column).astype("float64"), axis=0).astype(column[0].dtype) if _is_float(column[0]) else column[0]
        for column in zip(*models, strict=True)
    ]


def score(model: keras.Model, data: Data, head: Any) -> tuple[str, float]:
    """A figure of the validation split that is better the higher it is: accuracy, else minus the error of a regression.

    Returns:
        The name of the figure, and its value.
    """
    assert data.validation is not None
    figures, _ = told(parts_of(model, one_pass(model, data.validation), data, head), data)
    name = next(name for name in ("accuracy", "rmse") if name in figures)
    return name, figures[name] if QUALITY[name].better == "higher" else -figures[name]


def same_structure(models: Sequence[keras.Model]) -> str | None:
    """How models differ whose weights cannot be averaged; None where they do not."""
    first = [(tuple(weight.shape), weight.path.rpartition("/")[2]) for weight in models[0].weights]
    for place, model in enumerate(models[1:]):
        other = [(tuple(weight.shape), weight.path.rpartition("/")[2]) for weight in model.weights]
        if len(other) != len(first):
            return f"member 1 has {len(first)} weights, member {place + 2} has {len(other)}"
        for one, two in zip(first, other, strict=True):
            if one != two:
                return f"member 1 has {one[1]} of shape {one[0]} where member {place + 2} has {two[1]} of shape {two[0]}"
    return None


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
