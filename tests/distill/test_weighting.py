"""Weights of several teachers against their formulas in NumPy."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.weighting import check_weights, confidence_weights, entropy_weights

LOGITS = [scale * np.random.default_rng(place).standard_normal((7, 5)) for place, scale in enumerate((1.0, 4.0, 0.3))]
LABELS = np.random.default_rng(9).integers(0, 5, 7)


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


@pytest.mark.parametrize("teachers", [2, 3])
def test_entropy(teachers: int) -> None:
    entropies = np.stack([-(np.exp(log_softmax(z)) * log_softmax(z)).sum(-1) for z in LOGITS[:teachers]])
    expected = (1 - entropies / entropies.sum(0)) / (teachers - 1)
    found = entropy_weights([z.astype("float32") for z in LOGITS[:teachers]])
    np.testing.assert_allclose(np.stack(found), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.sum(found, axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("teachers", [2, 3])
def test_confidence(teachers: int) -> None:
    losses = np.stack([-log_softmax(z)[np.arange(7), LABELS] for z in LOGITS[:teachers]])
    shares = np.exp(losses) / np.exp(losses).sum(0)
    found = confidence_weights([z.astype("float32") for z in LOGITS[:teachers]], LABELS)
    np.testing.assert_allclose(np.stack(found), (1 - shares) / (teachers - 1), rtol=1e-4, atol=1e-6)
    right = LOGITS[0].copy()
    right[np.arange(7), LABELS] += 50
    assert (np.asarray(confidence_weights([right, -right], LABELS)[0]) > 0.99).all()


def test_extremes_and_positions() -> None:
    sure = np.where(np.eye(5)[LABELS] > 0, 1e4, -1e4).astype("float32")
    for found in (entropy_weights([sure, sure]), confidence_weights([sure, -sure], LABELS)):
        assert np.isfinite(np.stack(found)).all()
    np.testing.assert_allclose(np.stack(entropy_weights([sure, sure])), 0.5)
    steps = [np.stack([z, z], 1).astype("float32") for z in LOGITS]
    assert entropy_weights(steps)[0].shape == (7, 2)
    assert confidence_weights(steps, tf.constant(np.stack([LABELS, LABELS], 1)))[0].shape == (7, 2)


@pytest.mark.parametrize("weights", ["best", (1.0,), (1.0, -1.0), (0, 0), (1.0, float("nan")), (True, 1.0), 3])
def test_wrong_weights(weights: Any) -> None:
    with pytest.raises(ValueError, match="`teacher_weights`: expected one of .* or 2 numbers from 0"):
        check_weights(weights, 2)
    check_weights((0, 2.5), 2)
