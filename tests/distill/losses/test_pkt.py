"""Probabilistic knowledge transfer against NumPy in float64, written from the paper."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.pkt import PKT


def paper(teacher: np.ndarray, student: np.ndarray, weights: np.ndarray | None = None) -> float:
    batch = len(teacher)
    tables = []
    for features in (teacher, student):
        flat = features.reshape(batch, -1)
        flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        nearness = (flat @ flat.T + 1) / 2
        tables.append(nearness / nearness.sum(1, keepdims=True))
    rows = np.sum(tables[0] * np.log(tables[0] / tables[1]), axis=1)
    return float(np.sum((np.ones(batch) if weights is None else weights) * rows) / batch**2)


def example() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return rng.standard_normal((5, 2, 2, 3)).astype("float32"), rng.standard_normal((5, 4)).astype("float32")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_value_and_gradient(scale: float) -> None:
    teacher, student = example()
    student *= scale
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = PKT().compute_loss(teacher, tf.convert_to_tensor(variable))
    wide = teacher.astype(np.float64), student.astype(np.float64)
    assert float(value) == pytest.approx(paper(*wide), rel=1e-4)
    expected, step = np.zeros(student.shape), 1e-6 * scale
    for place in np.ndindex(*student.shape):
        for sign in (1, -1):
            moved = wide[1].copy()
            moved[place] += sign * step
            expected[place] += sign * paper(wide[0], moved) / (2 * step)
    np.testing.assert_allclose(tape.gradient(value, variable), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_row_counts_by_its_samples_weight() -> None:
    teacher, student = example()
    weights = np.float32([0.2, 3, 1, 0.5, 1])
    expected = paper(teacher.astype(float), student.astype(float), weights.astype(float))
    assert float(PKT().compute_loss(teacher, student, sample_weight=weights)) == pytest.approx(expected, rel=1e-4)
    assert expected > 0


def test_the_size_of_each_sample_does_not_matter() -> None:
    teacher, student = example()
    sizes = np.float32([1e-3, 5, 1, 100, 0.3])[:, None]
    expected = paper(teacher.astype(float), student.astype(float))
    assert float(PKT().compute_loss(teacher, sizes * student)) == pytest.approx(expected, rel=1e-4)


def test_opposite_samples_and_a_sample_of_zeros() -> None:
    teacher = np.float32([[1, 0], [0, 1], [1, 1]])
    student = np.float32([[1, 0], [-1, 0], [0, 0]])  # cosines of -1, and none
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = PKT().compute_loss(teacher, tf.convert_to_tensor(variable))
    near = np.array([[1, 1e-7, 0.5], [1e-7, 1, 0.5], [0.5, 0.5, 0.5]])
    cosines = (teacher / np.linalg.norm(teacher, axis=1, keepdims=True)) @ (teacher / np.linalg.norm(teacher, axis=1, keepdims=True)).T
    given = (cosines + 1) / 2
    given, made = given / given.sum(1, keepdims=True), near / near.sum(1, keepdims=True)
    assert float(value) == pytest.approx(np.mean(given * np.log(given / made)), rel=1e-4)
    assert np.abs(tape.gradient(value, variable)).max() < 10


def test_one_sample_has_no_neighbours() -> None:
    teacher, student = example()
    assert float(PKT().compute_loss(teacher[:1], student[:1])) == 0
