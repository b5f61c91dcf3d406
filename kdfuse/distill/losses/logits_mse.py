"""Mean squared error on logits."""

import keras

from kdfuse.distill.losses.base import CLASSIFICATION, Loss, Tensor


@keras.saving.register_keras_serializable("kdfuse")
class LogitsMSE(Loss):
    """The mean of `(z_s - z_t)^2` over classes and batch; of the values themselves where the head is a regression.

    Ba, Caruana: Do Deep Nets Really Need to be Deep?, 2014 (arXiv 1312.6184). The paper trains on this loss alone
    (`label_weight=0`, weight 1).

    Args:
        output: see `Loss`.
    """

    needs = (*CLASSIFICATION, "regression")
    min_classes = 1

    def per_sample(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        return keras.ops.mean(keras.ops.square(student_logits - teacher_logits), axis=-1)
