"""Neuron selectivity transfer: where the channels of a layer look, as a distribution."""

import math
from collections.abc import Sequence

import keras

from kdfuse.distill.losses.base import Tensor
from kdfuse.distill.losses.features import FeatureLoss, Shape
from kdfuse.distill.projectors import matched_shapes


@keras.saving.register_keras_serializable("kdfuse")
class NST(FeatureLoss):
    """The squared maximum mean discrepancy between the channels of teacher and student, with the kernel `(f . g)^2`.

    Each channel's map over the positions, divided by its length, is one sample of a distribution. With `f` the teacher's maps
    and `g` the student's, `mean_ij (f_i . f_j)^2 + mean_ij (g_i . g_j)^2 - 2 mean_ij (f_i . g_j)^2`. The two may have
    different numbers of channels. It is computed between channels or, as `||F F^T / C_t - G G^T / C_s||^2`, between
    positions, whichever takes fewer steps; so memory per sample is the square of the smaller of both, about.

    Huang and Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017 (arXiv 1707.01219). The paper
    gives this loss the weight 50 (half of it in its formula), the labels 1.

    Args:
        teacher_layer_name: see `FeatureLoss`. Layers need positions: features `[batch, steps, channels]` or of images.
        student_layer_name: see `FeatureLoss`.
    """

    def build(self, teacher_shapes: Sequence[Shape], student_shapes: Sequence[Shape], rows: int | None = None) -> None:
        super().build(teacher_shapes, student_shapes, rows)
        for teacher, student in zip(teacher_shapes, student_shapes, strict=True):
            _check_positions(*matched_shapes(teacher, student))

    def per_sample(self, teacher_features: Tensor, student_features: Tensor, *labels: Tensor) -> Tensor:
        own, other = tuple(teacher_features.shape), tuple(student_features.shape)
        _check_positions(own, other)
        teacher, student = _unit_maps(teacher_features), _unit_maps(student_features)
        wide, narrow = own[-1], other[-1]
        positions = math.inf if None in own[1:-1] else math.prod(own[1:-1])
        if positions * (wide + narrow) <= wide * wide + narrow * narrow + wide * narrow:
            difference = _between_positions(teacher) / wide - _between_positions(student) / narrow
            return _squares(difference)
        each = _squares(_products(teacher, teacher)) / wide**2 + _squares(_products(student, student)) / narrow**2
        return each - 2 * _squares(_products(teacher, student)) / (wide * narrow)


def _check_positions(teacher: Shape, student: Shape) -> None:
    if len(teacher) < 3:
        raise ValueError(
            f"NST compares maps over positions: it needs features [batch, ..., channels] of rank 3 or more in both models. Received: "
            f"{teacher} and {student}. Choose layers before the pooling, or a loss such as `RKD` for vectors."
        )


def _unit_maps(features: Tensor) -> Tensor:
    """`[batch, positions, channels]`, each channel's map of length 1; maps of zeros stay."""
    maps = keras.ops.reshape(features, (keras.ops.shape(features)[0], -1, features.shape[-1]))
    squares = keras.ops.sum(keras.ops.square(maps), axis=1, keepdims=True)
    return maps * keras.ops.rsqrt(keras.ops.maximum(squares, 1e-12))


def _products(first: Tensor, second: Tensor) -> Tensor:
    """`[batch, channels, channels]`."""
    return keras.ops.matmul(keras.ops.transpose(first, (0, 2, 1)), second)


def _between_positions(maps: Tensor) -> Tensor:
    """`[batch, positions, positions]`."""
    return keras.ops.matmul(maps, keras.ops.transpose(maps, (0, 2, 1)))


def _squares(values: Tensor) -> Tensor:
    return keras.ops.sum(keras.ops.square(values), axis=(1, 2))
