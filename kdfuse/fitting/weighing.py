"""Weights of classes as weights of labels, times the weights that the rows have.

Keras does this too, but it refuses rows with weights of their own and labels that are booleans, and takes one label for each step of a
row for a one-hot row.
"""

from typing import Any

import keras
import numpy as np

from kdfuse import labels
from kdfuse.data import Data
from kdfuse.fitting.checks import class_weights
from kdfuse.streams import mapped


def weighed(source: Any, weights: dict[int, float] | str | None, data: Data) -> Any:
    """What `fit` takes, in which a label counts by the weight of its class times that of its row.

    Args:
        source: batches `(x, y)` or `(x, y, sample_weight)`: a `tf.data.Dataset` or a `keras.utils.PyDataset`.
        weights: the setting `class_weight`; None leaves the source as it is.
        data: whose training labels the batches have.
    """
    table = class_weights(weights, data)
    if table is None:
        return source
    train: Any = data.train
    change = _Weigh(table, labels.is_sparse(train.targets() if train.indexable else train.first.y))
    return mapped(source, lambda x, y, *weight: (x, y, change(y, *weight)))


class _Weigh:
    """From labels, and the weights of their rows, to float32 weights of the labels."""

    def __init__(self, table: dict[int, float], sparse: bool) -> None:
        self.sparse = sparse
        self.values = np.asarray([table.get(label, 1.0) for label in range(max(table) + 1)], "float32")

    def __call__(self, y: Any, weight: Any = None) -> Any:
        y = keras.ops.cast(y, "float32")  # booleans among them; class numbers beyond 2 ** 24 there are none
        if len(y.shape) > 1 and not self.sparse:
            y = keras.ops.argmax(y, axis=-1)
        elif len(y.shape) > 1 and y.shape[-1] == 1:
            y = y[..., 0]
        found = keras.ops.take(self.values, keras.ops.cast(keras.ops.round(y), "int32"), axis=0)
        if weight is None:
            return found
        weight = keras.ops.cast(weight, "float32")
        for _ in range(len(found.shape) - len(weight.shape)):  # one weight for all steps of a row
            weight = keras.ops.expand_dims(weight, -1)
        return found * weight
