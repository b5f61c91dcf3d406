"""What losses on relations share, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.relations import gram, kept, per_row, present, rescaled, unit


def test_rows_that_are_present_and_kept() -> None:
    weights = np.float32([0, 0.5, 2])
    np.testing.assert_array_equal(present(weights), [0, 1, 1])
    assert present(weights).dtype == "float32"
    variable = tf.Variable(np.float32([[np.inf, np.nan], [1, 2], [3, 4]]))
    with tf.GradientTape() as tape:
        values = kept(tf.convert_to_tensor(variable), weights)
    np.testing.assert_array_equal(values, [[0, 0], [1, 2], [3, 4]])
    np.testing.assert_array_equal(tape.gradient(values, variable), [[0, 0], [1, 1], [1, 1]])
    assert kept(np.ones((3, 2, 2, 2), "float32"), weights).shape == (3, 2, 2, 2)


@pytest.mark.parametrize("rank", [2, 3])
def test_means_over_pairs_and_triples(rank: int) -> None:
    values = np.random.default_rng(0).random((4,) * rank).astype("float32")
    assert np.mean(per_row(values, np.ones(4, "float32"))) == pytest.approx(values.mean(), rel=1e-6)
    weights = np.float32([2, 0, 1, 0.5])
    some = np.flatnonzero(weights)
    roots = weights[some] ** (1 / rank)
    inner = values[np.ix_(*[some] * rank)]
    for axis in range(rank):
        inner = inner * np.moveaxis(roots.reshape(-1, *[1] * (rank - 1)), 0, axis)
    expected = np.zeros(4)
    expected[some] = inner.reshape(3, -1).sum(1) / 3 ** (rank - 1)
    np.testing.assert_allclose(per_row(values, weights), expected, rtol=1e-5)
    np.testing.assert_allclose(per_row(values, 3 * weights), 3 * expected, rtol=1e-5)
    np.testing.assert_array_equal(per_row(values, np.zeros(4, "float32")), np.zeros(4))


def test_rescaled() -> None:
    given = np.float32([[2, -8], [0, 0]])
    np.testing.assert_allclose(rescaled(given), given / 8)
    np.testing.assert_allclose(rescaled(given, axis=1), [[0.25, -1], [0, 0]])
    variable = tf.Variable(given)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(rescaled(tf.convert_to_tensor(variable)))
    np.testing.assert_allclose(tape.gradient(value, variable), np.full((2, 2), 1 / 8))


def test_unit_vectors() -> None:
    vectors = np.float32([[3, 4], [0, 0], [1e-7, 0], [1e5, 0]])
    variable = tf.Variable(vectors)
    with tf.GradientTape() as tape:
        found = unit(tf.convert_to_tensor(variable))
        value = tf.reduce_sum(found * [1.0, 2.0])
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, 0], [1, 0]], rtol=1e-6)
    along = np.array([1.0, 2.0])
    expected = np.zeros((4, 2))
    expected[0] = (along - (along @ [0.6, 0.8]) * np.array([0.6, 0.8])) / 5
    expected[3, 1] = 2e-5
    np.testing.assert_allclose(tape.gradient(value, variable), expected, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(unit(vectors, smallest=np.float32([[10], [1], [1e-9], [1]])), [[0, 0], [0, 0], [1, 0], [1, 0]], rtol=1e-6)


def test_gram() -> None:
    rows = np.random.default_rng(1).standard_normal((3, 5)).astype("float32")
    np.testing.assert_allclose(gram(rows), rows @ rows.T, rtol=1e-5)
