"""What the losses on relations within a batch share: rows without weight, means over pairs, directions with a gradient everywhere.

In all of them a row of weight 0 is as if it were not in the batch: the value with weights of 0 and 1 is the value of the rows that
are kept, times their share of the batch, as in Keras's mean.
"""

from typing import Any

import keras

Tensor = Any
SMALLEST = 1e-6


def present(weights: Tensor) -> Tensor:
    """1 for each row of a weight above 0, else 0.

    Args:
        weights: `[batch]`.

    Returns:
        Float32 `[batch]`.
    """
    return keras.ops.cast(keras.ops.convert_to_tensor(weights) > 0, "float32")


def kept(features: Tensor, weights: Tensor) -> Tensor:
    """Features in which the rows of weight 0 are 0, whatever they were, and get no gradient.

    Args:
        features: `[batch, ...]`.
        weights: `[batch]`.
    """
    rows = keras.ops.reshape(present(weights) > 0, (-1, *[1] * (len(features.shape) - 1)))
    return keras.ops.where(rows, features, keras.ops.zeros_like(features))


def per_row(values: Tensor, weights: Tensor) -> Tensor:
    """The loss of each row from the losses of pairs, triples ... of rows; its mean over the batch is the weighted mean over them.

    A pair counts by `sqrt(w_i w_j)`, a triple by the cube root of the three weights' product.

    Args:
        values: `[batch, batch]`, `[batch, batch, batch]` ...: finite also where a row has no weight.
        weights: float32 `[batch]`.

    Returns:
        `[batch]`: of row i the sum over its pairs, divided by the number of rows of a weight above 0 (for triples by its square).
    """
    rank = len(values.shape)
    weights = keras.ops.stop_gradient(keras.ops.cast(weights, "float32"))
    count = keras.ops.maximum(keras.ops.sum(present(weights)), 1.0)
    root = keras.ops.power(weights, 1.0 / rank)
    for _ in range(rank - 1):
        values = keras.ops.sum(values * root, axis=-1) / count
    return root * values


def rescaled(features: Tensor, axis: Any = None) -> Tensor:
    """Features over their largest absolute value, for losses that do not depend on it.

    Squares of large features overflow, those of small ones fall below every epsilon. The divisor is a constant to the
    gradient, which is right for a loss that is the same whatever the size of the features.

    Args:
        features: float32, of any shape.
        axis: over which axes the largest value is taken. None: over all.
    """
    largest = keras.ops.stop_gradient(keras.ops.max(keras.ops.abs(features), axis=axis, keepdims=True))
    return features / keras.ops.where(largest > 0, largest, keras.ops.ones_like(largest))


def unit(vectors: Tensor, smallest: Any = SMALLEST) -> Tensor:
    """Vectors along the last axis brought to length 1.

    Args:
        vectors: `[..., numbers]`.
        smallest: at and below this length there is no direction: the result is 0, and so is the gradient. A number, or `[..., 1]`.
    """
    squares = keras.ops.sum(keras.ops.square(vectors), axis=-1, keepdims=True)
    long = squares > keras.ops.square(keras.ops.convert_to_tensor(smallest, dtype="float32"))
    # Without the inner choice the gradient of the side that is not taken would be 0 * inf.
    length = keras.ops.sqrt(keras.ops.where(long, squares, keras.ops.ones_like(squares)))
    return keras.ops.where(long, vectors / length, keras.ops.zeros_like(vectors))


def gram(vectors: Tensor) -> Tensor:
    """The inner products of all pairs of rows.

    Args:
        vectors: `[batch, numbers]`.

    Returns:
        `[batch, batch]`.
    """
    return keras.ops.matmul(vectors, keras.ops.transpose(vectors))
