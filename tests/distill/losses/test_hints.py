"""Hints against NumPy: the mean squared difference of features, with and without a regressor."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.hints import Hints


def test_value_and_gradient() -> None:
    teacher, student = np.random.default_rng(0).standard_normal((2, 5, 3, 3, 4)).astype("float32")
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = Hints().compute_loss(teacher, tf.convert_to_tensor(variable))
    assert float(value) == pytest.approx(np.mean((student.astype(np.float64) - teacher) ** 2), rel=1e-6)
    np.testing.assert_allclose(tape.gradient(value, variable), 2 * (student - teacher) / student.size, rtol=1e-5, atol=1e-8)


def test_value_and_gradients_behind_the_regressor() -> None:
    rng = np.random.default_rng(0)
    teacher, student = rng.standard_normal((5, 3, 3, 4)).astype("float32"), rng.standard_normal((5, 3, 3, 2)).astype("float32")
    loss = Hints().attached()
    loss.build([teacher.shape], [student.shape])
    (layer,) = loss.parts
    kernel, bias = (rng.standard_normal(weight.shape).astype("float32") for weight in layer.get_weights())
    layer.set_weights([kernel, bias])
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = loss.compute_loss(teacher, tf.convert_to_tensor(variable))
    error = student.astype(np.float64) @ kernel + bias - teacher
    assert float(value) == pytest.approx(np.mean(error**2), rel=1e-5)
    slope = 2 * error / error.size
    found = tape.gradient(value, [variable, layer.kernel.value, layer.bias.value])
    np.testing.assert_allclose(found[0], slope @ kernel.T, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found[1], np.einsum("bhwi,bhwo->io", student, slope), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[2], slope.sum((0, 1, 2)), rtol=1e-4, atol=1e-6)


def test_a_masked_step_counts_neither_in_the_mean_nor_through_the_bias() -> None:
    rng = np.random.default_rng(1)
    teacher, student = rng.standard_normal((2, 3, 4)).astype("float32"), rng.standard_normal((2, 3, 2)).astype("float32")
    loss = Hints().attached()
    loss.build([teacher.shape], [student.shape])
    (layer,) = loss.parts
    layer.bias.assign([5.0, -4.0, 3.0, 2.0])
    mask = np.array([[True, True, False], [True, False, False]])
    error = ((student @ layer.kernel.numpy() + layer.bias.numpy() - teacher) ** 2).mean(-1)
    expected = (error[0, :2].mean() + error[1, 0]) / 2
    assert float(loss.compute_loss(teacher, student, mask=tf.constant(mask))) == pytest.approx(expected, rel=1e-5)


def test_uneven_weights() -> None:
    teacher, student = np.random.default_rng(0).standard_normal((2, 4, 6)).astype("float32")
    weights = np.float32([0.5, 2, 0, 1])
    expected = (weights * ((teacher - student) ** 2).mean(-1)).mean()
    assert float(Hints().compute_loss(teacher, student, sample_weight=weights)) == pytest.approx(expected, rel=1e-6)
