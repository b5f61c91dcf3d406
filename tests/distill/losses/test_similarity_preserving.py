"""Similarity-preserving distillation against NumPy in float64, written from the paper."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.similarity_preserving import SimilarityPreserving


def paper(teacher: np.ndarray, student: np.ndarray, weights: np.ndarray | None = None) -> float:
    batch = len(teacher)
    grams = []
    for features in (teacher, student):
        flat = features.reshape(batch, -1)
        gram = flat @ flat.T
        grams.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    weights = np.ones(batch) if weights is None else weights
    return float(np.sum(np.sqrt(np.outer(weights, weights)) * (grams[0] - grams[1]) ** 2) / batch**2)


def example() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.standard_normal((5, 2, 2, 3)).astype("float32"), rng.standard_normal((5, 4)).astype("float32")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_value_and_gradient(scale: float) -> None:
    teacher, student = example()
    student *= scale
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = SimilarityPreserving().compute_loss(teacher, tf.convert_to_tensor(variable))
    wide = teacher.astype(np.float64), student.astype(np.float64)
    assert float(value) == pytest.approx(paper(*wide), rel=1e-5)
    expected, step = np.zeros(student.shape), 1e-6 * scale
    for place in np.ndindex(*student.shape):
        for sign in (1, -1):
            moved = wide[1].copy()
            moved[place] += sign * step
            expected[place] += sign * paper(wide[0], moved) / (2 * step)
    np.testing.assert_allclose(tape.gradient(value, variable), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_pairs_count_by_the_root_of_both_weights() -> None:
    teacher, student = example()
    weights = np.float32([0.2, 3, 1, 0.5, 1])
    found = float(SimilarityPreserving().compute_loss(teacher, student, sample_weight=weights))
    assert found == pytest.approx(paper(teacher.astype(float), student.astype(float), weights.astype(float)), rel=1e-5)


def test_images_are_not_averaged_to_each_others_size() -> None:
    rng = np.random.default_rng(6)
    teacher, student = rng.standard_normal((5, 4, 4, 3)).astype("float32"), rng.standard_normal((5, 2, 2, 3)).astype("float32")
    assert float(SimilarityPreserving().compute_loss(teacher, student)) == pytest.approx(paper(teacher, student), rel=1e-4)


def test_rotated_and_scaled_features_are_as_similar() -> None:
    _, student = example()
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0].astype("float32")
    assert float(SimilarityPreserving().compute_loss(student, 7 * student @ turn)) == pytest.approx(0, abs=1e-10)


def test_one_sample_and_a_sample_of_zeros() -> None:
    teacher, student = example()
    assert float(SimilarityPreserving().compute_loss(teacher[:1], student[:1])) == pytest.approx(0, abs=1e-12)
    student[2] = 0
    others = np.delete(student, 2, 0)
    expected = others @ others.T
    rows = np.zeros((5, 5))
    rows[np.ix_([0, 1, 3, 4], [0, 1, 3, 4])] = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    gram = teacher.reshape(5, -1) @ teacher.reshape(5, -1).T
    gram /= np.linalg.norm(gram, axis=1, keepdims=True)
    assert float(SimilarityPreserving().compute_loss(teacher, student)) == pytest.approx(np.mean((rows - gram) ** 2), rel=1e-5)
