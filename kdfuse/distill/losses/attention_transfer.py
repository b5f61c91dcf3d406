"""Attention transfer."""

import math
from typing import Any

import keras

from kdfuse.distill.losses.base import Tensor, float_of
from kdfuse.distill.losses.features import FeatureLoss, Layers
from kdfuse.distill.losses.relations import rescaled, unit
from kdfuse.distill.projectors import matched_shapes


@keras.saving.register_keras_serializable("kdfuse")
class AttentionTransfer(FeatureLoss):
    """The student shall be active where the teacher is.

    `mean over batch and positions of (Q_s - Q_t)^2`, where Q, of length 1 over the positions of a sample, is the mean over the channels
    of `|F|^p`: `Q = l2norm(vec(mean_c |F|^p))`. Teacher and student may have different numbers of channels. Features
    that are 0 all over have Q = 0.

    Zagoruyko, Komodakis: Paying More Attention to Attention, 2017 (arXiv 1612.03928). The paper uses p = 2 and sums over several
    layers, with the weight 1000 on this loss (as a mean over positions) and 1 on the labels.

    Args:
        power: p, from 1. The higher it is, the more the most active positions count.
        teacher_layer_name: see `FeatureLoss`; layers whose features have positions, as of images or sequences.
        student_layer_name: see `FeatureLoss`.
    """

    def __init__(self, power: float = 2.0, teacher_layer_name: Layers = None, student_layer_name: Layers = None) -> None:
        super().__init__(teacher_layer_name, student_layer_name)
        number = float_of(power) if isinstance(power, int | float) and not isinstance(power, bool) else math.nan
        if not (math.isfinite(number) and number >= 1):
            raise ValueError(f"`power`: expected a number from 1. Received: power={power!r}.")
        self.power = number

    def per_sample(self, teacher_features: Tensor, student_features: Tensor, *labels: Tensor) -> Tensor:
        return keras.ops.square(self._attention(student_features) - self._attention(teacher_features))

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        super().validate_outputs(teacher_outputs, student_outputs)
        for teacher, student in self.pairs(teacher_outputs, student_outputs):
            shapes = tuple(teacher.shape), tuple(student.shape)
            sizes = matched_shapes(*shapes)[1][1:-1]
            if all(size == 1 for size in sizes):
                raise ValueError(
                    "AttentionTransfer needs features [batch, ..., channels] with at least two positions in both models. "
                    f"Received: the teacher's of shape {shapes[0]}, the student's of shape {shapes[1]}. Choose layers before pooling."
                )

    def _attention(self, features: Tensor) -> Tensor:
        """Q as `[batch, ...]`."""
        size = keras.ops.abs(rescaled(features, axis=tuple(range(1, len(features.shape)))))
        energy = keras.ops.mean(keras.ops.square(size) if self.power == 2 else keras.ops.power(size, self.power), axis=-1)
        shape = keras.ops.shape(energy)
        return keras.ops.reshape(unit(keras.ops.reshape(energy, (shape[0], -1))), shape)
