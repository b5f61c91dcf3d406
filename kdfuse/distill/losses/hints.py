"""Hints."""

import keras

from kdfuse.distill.losses.base import Tensor
from kdfuse.distill.losses.features import FeatureLoss


@keras.saving.register_keras_serializable("kdfuse")
class Hints(FeatureLoss):
    """The mean of `(r(F_s) - F_t)^2`: the student's features shall be the teacher's, after a regressor r.

    r is a linear map of the channels (on images a convolution of 1x1), trained with the student, where teacher and student have
    different numbers of channels; else there is none.

    Romero and others: FitNets: Hints for Thin Deep Nets, 2015 (arXiv 1412.6550). The paper first trains the student up to a
    middle layer on this loss alone, then distils; trained together with the labels, as is usual since, this loss has the weight
    100 and the labels 1.

    Args:
        teacher_layer_name: see `FeatureLoss`.
        student_layer_name: see `FeatureLoss`.
    """

    projects = True

    def per_sample(self, teacher_features: Tensor, student_features: Tensor, *labels: Tensor) -> Tensor:
        return keras.ops.mean(keras.ops.square(student_features - teacher_features), axis=-1)
