"""The teacher's decisions as labels against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.hard_labels import HardLabels


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_value_and_gradient(scale: float) -> None:
    teacher, student = scale * np.random.default_rng(0).standard_normal((2, 32, 10))
    shifted = student - student.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    chosen = teacher.argmax(-1)
    variable = tf.Variable(student.astype("float32"))
    with tf.GradientTape() as tape:
        value = HardLabels().compute_loss(teacher.astype("float32"), tf.convert_to_tensor(variable))
    assert float(value) == pytest.approx(-log_p[np.arange(32), chosen].mean(), rel=1e-5)
    np.testing.assert_allclose(tape.gradient(value, variable), (np.exp(log_p) - np.eye(10)[chosen]) / 32, rtol=1e-3, atol=1e-7)
