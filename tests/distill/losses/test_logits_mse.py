"""Mean squared error on logits against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.logits_mse import LogitsMSE


def test_value_and_gradient() -> None:
    teacher, student = np.random.default_rng(0).standard_normal((2, 32, 10)).astype("float32") * 5
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = LogitsMSE().compute_loss(teacher, tf.convert_to_tensor(variable))
    assert float(value) == pytest.approx(np.mean((teacher.astype(np.float64) - student) ** 2), rel=1e-6)
    np.testing.assert_allclose(tape.gradient(value, variable), 2 * (student - teacher) / student.size, rtol=1e-5, atol=1e-7)


def test_one_column_of_a_regression() -> None:
    teacher, student = np.float32([[1.0], [4.0]]), np.float32([[0.0], [2.0]])
    assert float(LogitsMSE().compute_loss(teacher, student)) == pytest.approx(2.5)
