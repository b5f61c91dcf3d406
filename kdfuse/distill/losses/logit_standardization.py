"""Soft targets of standardised logits."""

from typing import Any

import keras

from kdfuse.distill.losses.base import Loss, Tensor, positive
from kdfuse.distill.losses.soft_targets import divergence


@keras.saving.register_keras_serializable("kdfuse")
class LogitStandardization(Loss):
    """Soft targets of logits brought to mean 0 and standard deviation 1 per sample.

    `z <- (z - mean) / (std + 1e-7)` over the classes, with the standard deviation of a sample (divided by C - 1), then
    `T^2 * KL` as in `SoftTargets`. The student is free to have logits of another size than the teacher's. With two
    classes the standardised logits are constants, so at least three are needed.

    Sun and others: Logit Standardization in Knowledge Distillation, 2024 (arXiv 2403.01427). The authors' code uses T = 2
    with 9 on this loss and 0.1 on the labels.

    Args:
        temperature: T, above 0.
        output: see `Loss`.
    """

    needs = ("logits", "softmax")
    min_classes = 3
    scheduled = ("temperature",)

    def __init__(self, temperature: float = 2.0, output: str | int | None = None) -> None:
        super().__init__(output)
        self.temperature: Any = positive("temperature", temperature)

    def per_sample(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        return divergence(_standardised(teacher_logits), _standardised(student_logits), self.temperature)


def _standardised(logits: Tensor) -> Tensor:
    centred = logits - keras.ops.mean(logits, axis=-1, keepdims=True)
    variance = keras.ops.sum(keras.ops.square(centred), axis=-1, keepdims=True) / (logits.shape[-1] - 1)
    # The square root has no gradient at 0, where all logits of a sample are equal.
    return centred / (keras.ops.sqrt(keras.ops.maximum(variance, 1e-24)) + 1e-7)
