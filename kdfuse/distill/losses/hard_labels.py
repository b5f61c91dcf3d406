"""The teacher's decisions as labels."""

import keras

from kdfuse.distill.losses.base import Loss, Tensor


@keras.saving.register_keras_serializable("kdfuse")
class HardLabels(Loss):
    """The cross-entropy of the student against the class the teacher decides for.

    `mean over the batch of -log softmax(z_s)[argmax z_t]`.

    Touvron and others: Training data-efficient image transformers & distillation through attention, 2021 (arXiv
    2012.12877). The paper gives this loss and the labels the same weight, 0.5.

    Args:
        output: see `Loss`.
    """

    def per_sample(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        decided = keras.ops.one_hot(keras.ops.argmax(teacher_logits, axis=-1), student_logits.shape[-1], dtype="float32")
        return -keras.ops.sum(decided * keras.ops.log_softmax(student_logits, axis=-1), axis=-1)
