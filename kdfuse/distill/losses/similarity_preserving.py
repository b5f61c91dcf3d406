"""Similarity-preserving distillation."""

from typing import Any

import keras

from kdfuse.distill.losses.base import Tensor
from kdfuse.distill.losses.features import FeatureLoss, flatten
from kdfuse.distill.losses.relations import gram, kept, per_row, rescaled, unit


@keras.saving.register_keras_serializable("kdfuse")
class SimilarityPreserving(FeatureLoss):
    """Samples of a batch that are alike to the teacher shall be alike to the student.

    `||G_s - G_t||_F^2 / B^2`, where `G` is `F F^T` of flattened features, its rows brought to length 1. Teacher and student may have
    features of any shapes. A pair of samples counts by the root of their weights' product; a row of features that is 0
    has similarity 0 to all.

    Tung, Mori: Similarity-Preserving Knowledge Distillation, 2019 (arXiv 1907.09682). The paper uses the weight 3000 with 1
    on the labels. The value depends on the size of the batch.

    Args:
        teacher_layer_name: see `FeatureLoss`.
        student_layer_name: see `FeatureLoss`.
    """

    matches = False

    def compare(self, teacher_features: Tensor, student_features: Tensor, weights: Tensor, place: int, **context: Any) -> Tensor:
        teacher, student = (_similarities(features, weights) for features in (teacher_features, student_features))
        return per_row(keras.ops.square(student - teacher), weights)


def _similarities(features: Tensor, weights: Tensor) -> Tensor:
    return unit(gram(rescaled(kept(flatten(features), weights))))
