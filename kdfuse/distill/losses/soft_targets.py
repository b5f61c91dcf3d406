"""Soft targets."""

from typing import Any

import keras

from kdfuse.distill.losses.base import Loss, Tensor, positive


@keras.saving.register_keras_serializable("kdfuse")
class SoftTargets(Loss):
    """The divergence of the student's softened class probabilities from the teacher's.

    `T^2 * mean over the batch of sum_c p_t (log p_t - log p_s)`, with `p = softmax(z / T)`, in log space. The factor
    `T^2` keeps the size of the gradients when the temperature changes.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv 1503.02531). The paper uses T = 20 on
    MNIST, 2.5 to 4 for very small students; on CIFAR T = 4 with 0.9 on this loss and 0.1 on the labels is usual.

    Args:
        temperature: T, above 0. Higher values show more of how the teacher ranks the wrong classes.
        output: see `Loss`.
    """

    scheduled = ("temperature",)

    def __init__(self, temperature: float = 4.0, output: str | int | None = None) -> None:
        super().__init__(output)
        self.temperature: Any = positive("temperature", temperature)

    def per_sample(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        return divergence(teacher_logits, student_logits, self.temperature)


def divergence(teacher_logits: Tensor, student_logits: Tensor, temperature: Any) -> Tensor:
    """`T^2 * KL(softmax(z_t / T) || softmax(z_s / T))` of float32 logits `[..., classes]`, as `[...]`."""
    temperature = keras.ops.convert_to_tensor(temperature, dtype="float32")
    log_t = keras.ops.log_softmax(teacher_logits / temperature, axis=-1)
    log_s = keras.ops.log_softmax(student_logits / temperature, axis=-1)
    return temperature * temperature * keras.ops.sum(keras.ops.exp(log_t) * (log_t - log_s), axis=-1)
