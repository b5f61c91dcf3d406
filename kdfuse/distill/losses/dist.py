"""Distillation from a stronger teacher by correlations."""

from typing import Any

import keras

from kdfuse.distill.losses.base import Loss, Tensor, mean_over_batch, not_negative, positive
from kdfuse.distill.losses.relations import unit

CONSTANT = 1e-6
"""A spread below this share of the values' size is the rounding of float32."""
TINIEST = 1e-18
"""The smallest length whose square is a float32."""


@keras.saving.register_keras_serializable("kdfuse")
class DIST(Loss):
    """The student's probabilities shall correlate with the teacher's, in each sample and in each class; they need not be equal.

    `T^2 * (beta * (1 - mean over rows of rho(row_s, row_t)) + gamma * (1 - mean over columns of rho(column_s, column_t)))`, of
    `softmax(z / T)` with a row for each sample and a column for each class, and Pearson's correlation rho. Columns go over
    all positions of the batch that no mask leaves out.

    Sample weights weigh the rows, and the samples within each column's correlation; the part of the columns is multiplied by the mean
    weight. Where both models' row or column is constant there is nothing to tell, and its part is 0: so are all columns of a batch of
    one sample. Where one alone is constant, rho is 0. With two classes rho of a row is 1 or -1 without a gradient, so at least
    three are needed.

    Huang and others: Knowledge Distillation from A Stronger Teacher, 2022 (arXiv 2205.10536). The paper uses beta = gamma
    = 2 with 1 on the labels (here beta = gamma = 1 and a weight of 2), T = 4 on CIFAR-100 and T = 1 on ImageNet.

    Args:
        temperature: T, above 0.
        beta: of the rows, from 0.
        gamma: of the columns, from 0.
        output: see `Loss`.
    """

    needs = ("logits", "softmax")
    min_classes = 3
    scheduled = ("temperature", "beta", "gamma")

    def __init__(self, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0, output: str | int | None = None) -> None:
        super().__init__(output)
        self.temperature: Any = positive("temperature", temperature)
        self.beta: Any = not_negative("beta", beta)
        self.gamma: Any = not_negative("gamma", gamma)

    def term(self, teacher_logits: Tensor, student_logits: Tensor, sample_weight: Any, mask: Any, *labels: Tensor) -> Tensor:
        temperature, beta, gamma = (
            keras.ops.convert_to_tensor(value, dtype="float32") for value in (self.temperature, self.beta, self.gamma)
        )
        teacher, student = (keras.ops.softmax(logits / temperature, axis=-1) for logits in (teacher_logits, student_logits))
        classes = teacher.shape[-1]
        rows = _unlike(teacher, student, keras.ops.ones((classes,)))
        own, other = (keras.ops.transpose(keras.ops.reshape(values, (-1, classes))) for values in (teacher, student))
        spread = keras.ops.mean(_unlike(own, other, keras.ops.reshape(_weights(rows, sample_weight, mask), (-1,))))
        return mean_over_batch(self.name, temperature * temperature * (beta * rows + gamma * spread), sample_weight, mask)


def _unlike(teacher: Tensor, student: Tensor, weights: Tensor) -> Tensor:
    """1 - rho along the last axis, with weights along it."""
    (own, own_varies), (other, other_varies) = (_standardised(values, weights) for values in (teacher, student))
    # Of unit vectors half the squared distance is 1 - rho, and near 0 it keeps the digits that 1 - rho loses.
    apart = keras.ops.sum(keras.ops.square(own - other), axis=-1) + keras.ops.abs(own_varies - other_varies)
    return apart / 2


def _standardised(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Centred values of length 1, 0 where they are constant; and whether they vary, 1 or 0."""
    total = keras.ops.sum(weights)
    shares = weights / keras.ops.where(total > 0, total, 1.0)
    largest = keras.ops.stop_gradient(keras.ops.max(keras.ops.where(shares > 0, values, 0.0), axis=-1, keepdims=True))
    centred = values - keras.ops.sum(shares * values, axis=-1, keepdims=True)
    vectors = unit(keras.ops.sqrt(shares) * centred, keras.ops.maximum(CONSTANT * largest, TINIEST))
    return vectors, keras.ops.stop_gradient(keras.ops.sum(keras.ops.square(vectors), axis=-1))


def _weights(rows: Tensor, sample_weight: Any, mask: Any) -> Tensor:
    """The weight of each position, of the shape of `rows`."""
    weights = keras.ops.ones_like(rows)
    for given in (sample_weight, mask):
        if given is not None:
            given = keras.ops.cast(given, "float32")
            shape = (*keras.ops.shape(given), *[1] * len(rows.shape))[: len(rows.shape)]
            weights = weights * keras.ops.reshape(given, shape)
    return keras.ops.stop_gradient(weights)
