"""Attention transfer against NumPy in float64, written from the paper."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.attention_transfer import AttentionTransfer


def paper(teacher: np.ndarray, student: np.ndarray, power: float = 2.0) -> float:
    total = []
    for own, other in zip(teacher, student, strict=True):
        q_t, q_s = ((np.abs(one) ** power).mean(-1).ravel() for one in (own, other))
        total.append(np.mean((q_s / np.linalg.norm(q_s) - q_t / np.linalg.norm(q_t)) ** 2))
    return float(np.mean(total))


def example(*shape: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((*shape, 5)).astype("float32"), rng.standard_normal((*shape, channels)).astype("float32")


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_value_and_gradient(power: float, scale: float) -> None:
    teacher, student = example(3, 4, 2)
    student *= scale
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = AttentionTransfer(power).compute_loss(teacher, tf.convert_to_tensor(variable))
    wide = teacher.astype(np.float64), student.astype(np.float64)
    assert float(value) == pytest.approx(paper(*wide, power), rel=1e-5)
    expected, step = np.zeros(student.shape), 1e-6 * scale
    for place in np.ndindex(*student.shape):
        for sign in (1, -1):
            moved = wide[1].copy()
            moved[place] += sign * step
            expected[place] += sign * paper(wide[0], moved, power) / (2 * step)
    np.testing.assert_allclose(tape.gradient(value, variable), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_size_of_features_does_not_matter_the_power_does() -> None:
    teacher, student = example(4, 6)
    value = float(AttentionTransfer().compute_loss(teacher, student))
    assert float(AttentionTransfer().compute_loss(30 * teacher, 0.01 * student)) == pytest.approx(value, rel=1e-5)
    assert float(AttentionTransfer(power=4).compute_loss(teacher, student)) != pytest.approx(value, rel=1e-2)


def test_features_of_zero() -> None:
    teacher, student = example(2, 4)
    value = float(AttentionTransfer().compute_loss(teacher, 0 * student))
    assert value == pytest.approx(1 / 4, rel=1e-5)  # Q_t has length 1, Q_s is 0


def test_a_mask_leaves_steps_out() -> None:
    teacher, student = example(1, 6)
    mask = np.array([[True, True, False, True, False, True]])
    value = float(AttentionTransfer().compute_loss(teacher, student, mask=tf.constant(mask)))
    assert value == pytest.approx(paper(teacher[:, mask[0]].astype(float), student[:, mask[0]].astype(float)), rel=1e-5)


def test_features_without_positions_are_refused() -> None:
    vectors, images, pooled = np.zeros((4, 8), "float32"), np.zeros((4, 3, 3, 8), "float32"), np.zeros((4, 1, 1, 8), "float32")
    for own, other in ((vectors, vectors), (images, vectors), (vectors, images), (pooled, images)):
        with pytest.raises(ValueError, match=r"AttentionTransfer needs features \[batch, ..., channels\] with at least two positions"):
            AttentionTransfer().compute_loss(own, other)
        with pytest.raises(ValueError, match="Choose layers before pooling"):
            AttentionTransfer().validate_outputs(own, other)


def test_powers_without_a_gradient_are_refused() -> None:
    for power in (0.5, 0, float("nan"), True, "2"):
        with pytest.raises(ValueError, match="`power`: expected a number from 1. Received: power="):
            AttentionTransfer(power=power)  # type: ignore[arg-type]
