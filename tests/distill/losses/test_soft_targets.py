"""Soft targets against NumPy in float64, and beside what Keras's own loss gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.soft_targets import SoftTargets


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def paper(teacher: np.ndarray, student: np.ndarray, temperature: float) -> float:
    log_t, log_s = (log_softmax(z.astype(np.float64) / temperature) for z in (teacher, student))
    return float(temperature**2 * np.mean(np.sum(np.exp(log_t) * (log_t - log_s), -1)))


def paper_gradient(teacher: np.ndarray, student: np.ndarray, temperature: float) -> np.ndarray:
    p_t, p_s = (np.exp(log_softmax(z.astype(np.float64) / temperature)) for z in (teacher, student))
    return temperature * (p_s - p_t) / len(teacher)


def value_and_gradient(loss: keras.distillation.DistillationLoss, teacher: np.ndarray, student: np.ndarray) -> tuple[float, np.ndarray]:
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = loss.compute_loss(tf.constant(teacher), tf.convert_to_tensor(variable))
    return float(value), np.asarray(tape.gradient(value, variable), np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def logits(scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    teacher, student = scale * rng.standard_normal((2, 128, 10))
    return teacher.astype("float32"), student.astype("float32")


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0, 50.0])
def test_value_and_gradient_are_the_papers(temperature: float, scale: float) -> None:
    teacher, student = logits(scale)
    value, gradient = value_and_gradient(SoftTargets(temperature), teacher, student)
    assert value == pytest.approx(paper(teacher, student, temperature), rel=1e-5)
    expected = paper_gradient(teacher, student, temperature)
    assert cosine(gradient, expected) > 0.9999
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-7 * temperature)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
def test_shifting_all_logits_changes_nothing(temperature: float) -> None:
    teacher, student = (np.round(z * 64) / 64 for z in logits(5.0))  # a grid on which float32 adds the shift exactly
    loss = SoftTargets(temperature)
    value, gradient = value_and_gradient(loss, teacher, student)
    shifted, shifted_gradient = value_and_gradient(loss, teacher + np.float32(512), student - np.float32(256))
    assert shifted == pytest.approx(value, rel=1e-4 if temperature > 1 else 1e-5)
    assert cosine(gradient, shifted_gradient) > 0.99999


def test_beside_keras() -> None:
    """`keras.distillation.LogitsDistillation()` applies neither softmax nor T^2 with its default settings."""
    teacher, student = logits(5.0)
    expected, expected_gradient = paper(teacher, student, 3.0), paper_gradient(teacher, student, 3.0)

    def errors(loss: keras.distillation.DistillationLoss) -> tuple[float, float]:
        value, gradient = value_and_gradient(loss, teacher, student)
        return abs(value - expected) / expected, cosine(gradient, expected_gradient)

    ours, keras_default = errors(SoftTargets(3.0)), errors(keras.distillation.LogitsDistillation(temperature=3.0))
    assert ours[0] < 1e-5 and ours[1] > 0.9999
    assert keras_default[0] > 0.2 and keras_default[1] < 0.5

    # Given a KLDivergence object it is right for mild logits, and clips for the sizes that networks have.
    teacher, student = logits(20.0)
    exact = paper_gradient(teacher, student, 1.0)
    _, clipped = value_and_gradient(keras.distillation.LogitsDistillation(1.0, keras.losses.KLDivergence()), teacher, student)
    _, own = value_and_gradient(SoftTargets(1.0), teacher, student)

    def off(gradient: np.ndarray) -> float:
        return float(np.linalg.norm(gradient - exact) / np.linalg.norm(exact))

    assert off(own) < 1e-5 < 0.5 < off(clipped)


def test_extreme_logits_stay_finite() -> None:
    teacher, student = np.float32([[200.0, 0.0], [-1e4, 1e4]]), np.float32([[0.0, 200.0], [1e4, -1e4]])
    value, gradient = value_and_gradient(SoftTargets(1.0), teacher, student)
    assert value == pytest.approx((200 + 2e4) / 2, rel=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "4", None, True])
def test_a_wrong_temperature_is_refused(temperature: object) -> None:
    with pytest.raises(ValueError, match="`temperature`: expected a number above 0"):
        SoftTargets(temperature)  # type: ignore[arg-type]
