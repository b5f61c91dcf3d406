"""What each of several teachers counts for."""

from collections.abc import Sequence
from typing import Any

import keras

Tensor = Any
WEIGHTINGS = ("mean", "entropy", "confidence")


def entropy_weights(logits: Sequence[Tensor]) -> list[Tensor]:
    """More weight to the teachers that are surer: `w_k = (1 - H_k / sum_j H_j) / (K - 1)`, with the entropy H of the softmax.

    Kwon and others: Adaptive Knowledge Distillation Based on Entropy, 2020 (ICASSP).

    Args:
        logits: float32 `[batch, ..., classes]` of each of K >= 2 teachers.

    Returns:
        `[batch, ...]` of each teacher, which sum to 1.
    """
    entropies = []
    for z in logits:
        log_p = keras.ops.log_softmax(keras.ops.cast(z, "float32"), axis=-1)
        entropies.append(-keras.ops.sum(keras.ops.exp(log_p) * log_p, axis=-1))
    # Where all are sure beyond doubt there is nothing to tell them apart.
    total = sum(entropies[1:], entropies[0]) + 1e-12 * len(logits)
    return [(1.0 - (entropy + 1e-12) / total) / (len(logits) - 1) for entropy in entropies]


def confidence_weights(logits: Sequence[Tensor], labels: Tensor) -> list[Tensor]:
    """More weight to the teachers that are right: `w_k = (1 - softmax_k(CE_k)) / (K - 1)`, with the cross-entropy to the label.

    Zhang and others: Confidence-Aware Multi-Teacher Knowledge Distillation, 2022 (arXiv 2201.00007), equation 2.

    Args:
        logits: float32 `[batch, ..., classes]` of each of K >= 2 teachers.
        labels: int32 class numbers `[batch, ...]`.

    Returns:
        `[batch, ...]` of each teacher, which sum to 1.
    """
    losses = []
    for z in logits:
        log_p = keras.ops.log_softmax(keras.ops.cast(z, "float32"), axis=-1)
        losses.append(-keras.ops.sum(keras.ops.one_hot(labels, z.shape[-1], dtype="float32") * log_p, axis=-1))
    shares = keras.ops.softmax(keras.ops.stack(losses, axis=-1), axis=-1)
    return [(1.0 - shares[..., place]) / (len(logits) - 1) for place in range(len(logits))]


def check_weights(weights: Any, teachers: int) -> None:
    """Check the setting `teacher_weights`.

    Raises:
        ValueError: neither one of `WEIGHTINGS` nor one number from 0 for each teacher.
    """
    if isinstance(weights, str) and weights in WEIGHTINGS:
        return
    numbers = weights if isinstance(weights, tuple) else ()
    fits = len(numbers) == teachers and all(
        isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one < float("inf") for one in numbers
    )
    if not fits or not any(numbers):
        raise ValueError(
            f"`teacher_weights`: expected one of {WEIGHTINGS}, or {teachers} numbers from 0, one for each teacher and not all 0. "
            f"Received: teacher_weights={weights!r}."
        )
