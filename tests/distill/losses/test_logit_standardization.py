"""Soft targets of standardised logits against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.logit_standardization import LogitStandardization


def paper(teacher: np.ndarray, student: np.ndarray, temperature: float) -> float:
    def log_p(z: np.ndarray) -> np.ndarray:
        z = (z - z.mean(-1, keepdims=True)) / (z.std(-1, ddof=1, keepdims=True) + 1e-7) / temperature
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    log_t, log_s = log_p(teacher), log_p(student)
    return float(temperature**2 * np.mean(np.sum(np.exp(log_t) * (log_t - log_s), -1)))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 20.0])
@pytest.mark.parametrize("scale", [1.0, 50.0])
@pytest.mark.parametrize("classes", [3, 10])
def test_value_and_gradient(temperature: float, scale: float, classes: int) -> None:
    teacher, student = (scale * np.random.default_rng(1).standard_normal((2, 16, classes))).astype("float32").astype(np.float64)
    variable = tf.Variable(student.astype("float32"))
    with tf.GradientTape() as tape:
        value = LogitStandardization(temperature).compute_loss(teacher.astype("float32"), tf.convert_to_tensor(variable))
    assert float(value) == pytest.approx(paper(teacher, student, temperature), rel=2e-5)
    step, expected = 1e-5 * scale, np.zeros_like(student)
    for place in np.ndindex(*student.shape):
        for sign in (1, -1):
            moved = student.copy()
            moved[place] += sign * step
            expected[place] += sign * paper(teacher, moved, temperature) / (2 * step)
    gradient = np.asarray(tape.gradient(value, variable), np.float64)
    assert (gradient * expected).sum() / np.sqrt((gradient**2).sum() * (expected**2).sum()) > 0.9999
    np.testing.assert_allclose(gradient, expected, rtol=1e-2, atol=1e-4 * np.abs(expected).max())


def test_size_and_offset_of_the_student_do_not_matter() -> None:
    teacher = np.random.default_rng(2).standard_normal((8, 5)).astype("float32")
    assert float(LogitStandardization().compute_loss(teacher, 16 * teacher + 4)) == pytest.approx(0, abs=1e-5)


def test_two_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="LogitStandardization needs logits .* at least 3 classes"):
        LogitStandardization().compute_loss(np.zeros((4, 2), "float32"), np.zeros((4, 2), "float32"))
