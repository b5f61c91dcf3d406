"""Variational information distillation: how well the student's features tell the teacher's."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.distill.losses.base import Tensor, positive
from kdfuse.distill.losses.features import FeatureLoss, Layers, Shape, row_means
from kdfuse.distill.projectors import matched_shapes

EPSILON = 1e-5


@keras.saving.register_keras_serializable("kdfuse")
class VID(FeatureLoss):
    """A bound on the information that the student's features hold of the teacher's, which is made as large as possible.

    The teacher's features are taken as normal variables around a function `mu` of the student's, with a variance for each
    channel: `mean of 1/2 [(mu(F_s) - F_t)^2 / sigma^2 + log sigma^2]` over positions and channels, with
    `sigma^2 = softplus(a) + 1e-5`. `mu` and `a` are trained with the student. As in the authors' code, `mu` is three linear
    maps at each position (1x1 convolutions) as wide as the teacher's features, without biases, with ReLU between them; the
    same net serves vectors, for which the paper names a single linear map. The loss can be below 0.

    Ahn and others: Variational Information Distillation for Knowledge Transfer, 2019 (arXiv 1904.05835). The usual weight
    is 1 beside a label weight of 1.

    Args:
        variance: what sigma^2 is before training, above 1e-5.
        teacher_layer_name: see `FeatureLoss`.
        student_layer_name: see `FeatureLoss`.
    """

    needs_parts = True

    def __init__(self, variance: float = 5.0, teacher_layer_name: Layers = None, student_layer_name: Layers = None) -> None:
        super().__init__(teacher_layer_name, student_layer_name)
        self.variance = positive("variance", variance)
        if self.variance <= EPSILON:
            raise ValueError(f"`variance`: expected a number above {EPSILON}. Received: variance={variance!r}.")

    def build(self, teacher_shapes: Sequence[Shape], student_shapes: Sequence[Shape], rows: int | None = None) -> None:
        super().build(teacher_shapes, student_shapes, rows)
        parts = []
        for place, (teacher, student) in enumerate(zip(teacher_shapes, student_shapes, strict=True)):
            own, other = matched_shapes(teacher, student)
            part = _Normal(own[-1], self.variance, place, dtype="float32", name=f"{self.name}_{place}")
            part.build(other)
            parts.append(part)
        self.parts = parts

    def compare(self, teacher_features: Tensor, student_features: Tensor, weights: Tensor, place: int, **context: Any) -> Tensor:
        mean, variance = self.parts[place](student_features)
        values = (keras.ops.square(mean - teacher_features) / variance + keras.ops.log(variance)) / 2
        return weights * row_means(values, context.get("mask"))


class _Normal(keras.layers.Layer):
    """The mean and the variance of the teacher's features where the student's are given.

    Args:
        channels: of the teacher's features.
        variance: the first value of the variance.
        place: of the pair of layers: seeds differ from one to the next.
        **kwargs: of a Keras layer.
    """

    def __init__(self, channels: Any, variance: float, place: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.variance = channels, variance
        self.maps = [
            keras.layers.Dense(
                channels,
                activation=None if step == 2 else "relu",
                use_bias=False,
                kernel_initializer=keras.initializers.HeUniform(3 * place + step),
                dtype="float32",
                name=f"map_{step}",
            )
            for step in range(3)
        ]

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        for layer in self.maps:
            layer.build(shape)
            shape = (*shape[:-1], self.channels)
        wanted = self.variance - EPSILON
        # The inverse of softplus, in a form that does not overflow.
        first = wanted + math.log(-math.expm1(-wanted))
        self.scale = self.add_weight(
            shape=(self.channels,), initializer=keras.initializers.Constant(first), dtype="float32", autocast=False, name="scale"
        )
        self.built = True

    def call(self, features: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.maps:
            features = layer(features)
        return features, keras.ops.softplus(self.scale) + EPSILON
