"""Probabilistic knowledge transfer."""

from typing import Any

import keras

from kdfuse.distill.losses.base import Tensor
from kdfuse.distill.losses.features import FeatureLoss, flatten
from kdfuse.distill.losses.relations import gram, kept, present, rescaled, unit

SMALLEST = 1e-7


@keras.saving.register_keras_serializable("kdfuse")
class PKT(FeatureLoss):
    """To each sample, the others of a batch shall be as probable as neighbours in the student's features as in the teacher's.

    `mean over all pairs of P_t log(P_t / P_s)`, where `P` is `(cos + 1) / 2` of flattened features, its rows brought to sum 1; cosines
    of -1 count as `1e-7`. Teacher and student may have features of any shapes. The divergence of a sample's row counts by the
    sample's weight; a row of features that is 0 has cosine 0 to all.

    Passalis, Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer, 2018 (arXiv 1803.10837). As a mean over pairs
    the loss is small: the weight 30000 with 1 on the labels is usual. The value depends on the size of the batch.

    Args:
        teacher_layer_name: see `FeatureLoss`.
        student_layer_name: see `FeatureLoss`.
    """

    matches = False

    def compare(self, teacher_features: Tensor, student_features: Tensor, weights: Tensor, place: int, **context: Any) -> Tensor:
        among = present(weights)
        teacher, student = (_log_probabilities(features, among) for features in (teacher_features, student_features))
        divergence = keras.ops.sum(among * keras.ops.exp(teacher) * (teacher - student), axis=-1)
        return keras.ops.stop_gradient(weights) * divergence / keras.ops.maximum(keras.ops.sum(among), 1.0)


def _log_probabilities(features: Tensor, among: Tensor) -> Tensor:
    """Log P of flattened features, `[batch, batch]`, with rows that sum to 1 over the rows that are `among` the batch."""
    flat = rescaled(kept(flatten(features), among), axis=-1)
    nearness = keras.ops.maximum((gram(unit(flat)) + 1) / 2, SMALLEST)
    return keras.ops.log(nearness) - keras.ops.log(keras.ops.maximum(keras.ops.sum(among * nearness, axis=-1, keepdims=True), SMALLEST))
