"""Decoupled knowledge distillation."""

from typing import Any

import keras

from kdfuse.distill.losses.base import Loss, Tensor, not_negative, positive

NOWHERE = -1e30
"""The logit of a class that is left out: finite, so that no gradient is inf - inf."""


@keras.saving.register_keras_serializable("kdfuse")
class DKD(Loss):
    """Soft targets in two parts: how sure the teacher is of the true class, and how it ranks the others.

    `T^2 * mean over the batch of (alpha * KL(b_t || b_s) + beta * KL(q_t || q_s))`. Of `p = softmax(z / T)`, `b = (p_y, 1 - p_y)`
    is the true class y against the rest, and `q = softmax` over the other classes alone. In soft targets the second part has the
    weight `1 - p_y` of the teacher, so a sure teacher tells little of the other classes; here it has a weight of its own.
    In log space: with `m = z_y / T - logsumexp of the others`, `log p_y = log sigmoid(m)`.

    With two classes there is one other class, and nothing to rank: at least three are needed.

    Zhao and others: Decoupled Knowledge Distillation, 2022 (arXiv 2203.08679). The paper uses T = 4, alpha = 1, beta = 8 on
    CIFAR-100 (other teachers other values of beta) with weight 1 on this loss and 1 on the labels; this loss grows
    from 0 over the first 20 epochs, which a schedule of its weight does.

    Args:
        temperature: T, above 0.
        alpha: of the true class against the rest, from 0.
        beta: of the other classes among themselves, from 0.
        output: see `Loss`.
    """

    needs = ("logits", "softmax")
    min_classes = 3
    scheduled = ("temperature", "alpha", "beta")
    needs_labels = True

    def __init__(self, temperature: float = 4.0, alpha: float = 1.0, beta: float = 8.0, output: str | int | None = None) -> None:
        super().__init__(output)
        self.temperature: Any = positive("temperature", temperature)
        self.alpha: Any = not_negative("alpha", alpha)
        self.beta: Any = not_negative("beta", beta)

    def per_sample(self, teacher_logits: Tensor, student_logits: Tensor, *labels: Tensor) -> Tensor:
        temperature, alpha, beta = (
            keras.ops.convert_to_tensor(value, dtype="float32") for value in (self.temperature, self.alpha, self.beta)
        )
        true = keras.ops.one_hot(labels[0], student_logits.shape[-1], dtype="bool")
        margin_t, rest_t = _split(teacher_logits / temperature, true)
        margin_s, rest_s = _split(student_logits / temperature, true)
        target = _share(margin_t, margin_s) + _share(-margin_t, -margin_s)
        others = keras.ops.sum(keras.ops.exp(rest_t) * (rest_t - rest_s), axis=-1)
        return temperature * temperature * (alpha * target + beta * others)


def _split(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """The logit of the true class against the rest, `[...]`, and the log-probabilities of the others, `[..., classes]`."""
    others = keras.ops.where(true, NOWHERE, logits)
    total = keras.ops.logsumexp(others, axis=-1, keepdims=True)
    own = keras.ops.sum(keras.ops.where(true, logits, 0.0), axis=-1)
    return own - total[..., 0], others - keras.ops.where(true, 0.0, total)


def _share(teacher: Tensor, student: Tensor) -> Tensor:
    """`p_t (log p_t - log p_s)` of `p = sigmoid(logit)`."""
    log_t = keras.ops.log_sigmoid(teacher)
    return keras.ops.exp(log_t) * (log_t - keras.ops.log_sigmoid(student))
