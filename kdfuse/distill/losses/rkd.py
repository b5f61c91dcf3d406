"""Relational knowledge distillation: distances and angles between the samples of a batch."""

import math
from typing import Any

import keras

from kdfuse.distill.losses.base import Tensor
from kdfuse.distill.losses.features import FeatureLoss, Layers, flatten
from kdfuse.distill.losses.relations import SMALLEST, kept, per_row, present, rescaled


@keras.saving.register_keras_serializable("kdfuse")
class RKD(FeatureLoss):
    """Pairs of samples shall be as far apart in the student as in the teacher, triples shall span the same angles.

    `distance * mean_ij Huber(d_ij / mean d) + angle * mean_ijk Huber(cos of the angle at i between j and k)` of the
    differences between student and teacher, with `Huber(x) = x^2 / 2` up to 1 and `|x| - 1/2` above, over flattened features. The
    mean of the distances is over those above 0; the means of the losses are over all pairs and triples, those of a sample with
    itself included, as in the authors' code. Samples that are the same span no angle: its cosine is 0. A batch of 1 has loss
    0, one of 2 no angles. Teacher and student may have features of any shapes.

    Memory grows with the cube of the batch, and with its square times the width of the features: up to 256 rows of some
    thousand numbers are well. The value depends on the size of the batch.

    Park and others: Relational Knowledge Distillation, 2019 (arXiv 1904.05068). The weight of the whole is usually 1, with
    the factors 25 and 50 beside a label weight of 1.

    Args:
        distance: factor of the distances' loss, from 0.
        angle: factor of the angles' loss, from 0; with 0 they are not computed.
        teacher_layer_name: see `FeatureLoss`.
        student_layer_name: see `FeatureLoss`.
    """

    matches = False

    def __init__(
        self, distance: float = 25.0, angle: float = 50.0, teacher_layer_name: Layers = None, student_layer_name: Layers = None
    ) -> None:
        super().__init__(teacher_layer_name, student_layer_name)
        self.distance, self.angle = _factor("distance", distance), _factor("angle", angle)
        if self.distance == self.angle == 0:
            raise ValueError("`distance`, `angle`: expected at least one above 0. Received: both 0.")

    def compare(self, teacher_features: Tensor, student_features: Tensor, weights: Tensor, place: int, **context: Any) -> Tensor:
        teacher, student = (_squares(features, weights) for features in (teacher_features, student_features))
        among = present(weights)
        pairs = among[:, None] * among[None]
        values = keras.ops.zeros_like(among)
        if self.distance:
            apart = _relative(student, pairs) - _relative(teacher, pairs)
            values = values + self.distance * per_row(_huber(apart), weights)
        if self.angle:
            values = values + self.angle * per_row(_huber(_cosines(student) - _cosines(teacher)), weights)
        return values


def _squares(features: Tensor, weights: Tensor) -> Tensor:
    """`[batch, batch]`: squared distances, in units of the largest feature, of which the loss does not depend."""
    flat = rescaled(kept(flatten(features), weights))
    # From differences: products of rows would cancel where features have an offset, or on a GPU with its shorter products.
    return keras.ops.sum(keras.ops.square(flat[:, None] - flat[None]), axis=-1)


def _roots(squares: Tensor) -> tuple[Tensor, Tensor]:
    """1 where a distance is above 0, else 0, and the distance, 1 in place of 0: its root has a gradient everywhere."""
    apart = squares > SMALLEST * SMALLEST
    return keras.ops.cast(apart, "float32"), keras.ops.sqrt(keras.ops.where(apart, squares, keras.ops.ones_like(squares)))


def _relative(squares: Tensor, pairs: Tensor) -> Tensor:
    """`[batch, batch]`: distances divided by the mean of those above 0."""
    apart, distances = _roots(squares)
    distances, count = apart * distances * pairs, keras.ops.sum(apart * pairs)
    mean = keras.ops.sum(distances) / keras.ops.maximum(count, 1.0)
    return distances / keras.ops.where(count > 0, mean, keras.ops.ones_like(mean))


def _cosines(squares: Tensor) -> Tensor:
    """`[batch, batch, batch]`: cosines of the angles at the first sample, by the law of cosines."""
    apart, distances = _roots(squares)
    inverse = apart / distances
    sides = squares[:, :, None] + squares[:, None, :] - squares[None]
    return sides * inverse[:, :, None] * inverse[:, None, :] / 2


def _huber(values: Tensor) -> Tensor:
    size = keras.ops.abs(values)
    return keras.ops.where(size <= 1, keras.ops.square(size) / 2, size - 0.5)


def _factor(argument: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"`{argument}`: expected a number from 0. Received: {argument}={value!r}.")
    return float(value)
