"""Distillation by correlations against NumPy's own correlation in float64, and what it promises of weights and masks."""

import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.dist import DIST


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def paper(teacher: np.ndarray, student: np.ndarray, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> float:
    p_t, p_s = softmax(teacher / temperature), softmax(student / temperature)
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(p_t, p_s, strict=True)]
    columns = [np.corrcoef(a, b)[0, 1] for a, b in zip(p_t.T, p_s.T, strict=True)]
    return float(temperature**2 * (beta * (1 - np.mean(rows)) + gamma * (1 - np.mean(columns))))


def example(batch: int = 9, classes: int = 5, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    teacher, student = scale * np.random.default_rng(batch).standard_normal((2, batch, classes))
    return teacher.astype("float32"), student.astype("float32")


def gradient(loss: DIST, teacher: np.ndarray, student: np.ndarray, **extra: object) -> np.ndarray:
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = loss.compute_loss(teacher, tf.convert_to_tensor(variable), **extra)
    assert np.isfinite(float(value))
    return np.asarray(tape.gradient(value, variable))


@pytest.mark.parametrize(("temperature", "beta", "gamma"), [(1.0, 1.0, 1.0), (4.0, 1.0, 0.0), (4.0, 0.0, 2.0)])
@pytest.mark.parametrize("scale", [0.1, 2.0, 8.0])
def test_value_and_gradient(temperature: float, beta: float, gamma: float, scale: float) -> None:
    teacher, student = example(scale=scale)
    wide = teacher.astype(np.float64), student.astype(np.float64)
    loss = DIST(temperature, beta, gamma)
    assert float(loss.compute_loss(teacher, student)) == pytest.approx(paper(*wide, temperature, beta, gamma), rel=1e-4)
    expected, step = np.zeros(student.shape), 1e-5 * scale
    for place in np.ndindex(*student.shape):
        for sign in (1, -1):
            moved = wide[1].copy()
            moved[place] += sign * step
            expected[place] += sign * paper(wide[0], moved, temperature, beta, gamma) / (2 * step)
    np.testing.assert_allclose(gradient(loss, teacher, student), expected, rtol=5e-3, atol=5e-4 * np.abs(expected).max())


def test_probabilities_on_one_line_are_alike() -> None:
    """Rows of which one is a mixture of the other and the uniform distribution correlate fully, though they differ."""
    p = softmax(np.random.default_rng(0).standard_normal((6, 4)))
    teacher, student = np.log(p).astype("float32"), np.log(0.3 * p + 0.7 / 4).astype("float32")
    assert float(DIST(gamma=0.0).compute_loss(teacher, student)) == pytest.approx(0, abs=1e-5)


def test_uneven_weights_weigh_rows_and_correlations() -> None:
    teacher, student = example()
    weights = np.float32([0, 1, 2, 1, 3, 1, 0, 2, 1])
    repeated = np.repeat(np.arange(9), weights.astype(int))  # a weight of 2 is a row that is there twice
    expected = paper(teacher[repeated].astype(np.float64), student[repeated].astype(np.float64)) * weights.sum() / 9
    for given in (weights, weights[:, None]):
        assert float(DIST().compute_loss(teacher, student, sample_weight=given)) == pytest.approx(expected, rel=1e-4)
    assert not gradient(DIST(), teacher, student, sample_weight=weights)[weights == 0].any()
    variable = tf.Variable(weights)
    with tf.GradientTape() as tape:
        value = DIST(beta=0.0).compute_loss(teacher, student, sample_weight=variable)
    slope = tape.gradient(value, variable)  # the mean weight alone, not through the correlations
    np.testing.assert_allclose(slope, np.full(9, float(value) / weights.sum()), rtol=1e-4)


def test_columns_go_over_all_positions_that_are_not_masked() -> None:
    teacher, student = example(12)
    folded = teacher.reshape(4, 3, 5), student.reshape(4, 3, 5)
    expected = paper(teacher.astype(np.float64), student.astype(np.float64))
    assert float(DIST().compute_loss(*folded)) == pytest.approx(expected, rel=1e-4)
    mask = np.random.default_rng(1).random((4, 3)) < 0.7
    expected = paper(folded[0][mask].astype(np.float64), folded[1][mask].astype(np.float64))
    assert float(DIST().compute_loss(*folded, mask=tf.constant(mask))) == pytest.approx(expected, rel=1e-4)
    assert not gradient(DIST(), *folded, mask=tf.constant(mask))[~mask].any()


def test_one_sample_has_rows_alone() -> None:
    teacher, student = example(1)
    rows = 1 - np.corrcoef(softmax(teacher[0].astype(np.float64)), softmax(student[0].astype(np.float64)))[0, 1]
    assert float(DIST().compute_loss(teacher, student)) == pytest.approx(rows, rel=1e-4)
    assert float(DIST(beta=0.0).compute_loss(teacher, student)) == 0
    assert not gradient(DIST(beta=0.0), teacher, student).any()
    teacher, student = example()
    one = np.eye(9, dtype="float32")[3]
    assert float(DIST(beta=0.0).compute_loss(teacher, student, sample_weight=one)) == pytest.approx(0, abs=1e-7)


def test_constant_rows_and_columns() -> None:
    teacher, student = example()
    flat, same = np.full((9, 5), 1.7, "float32"), np.repeat(student[:1], 9, 0)
    assert float(DIST().compute_loss(flat, flat)) == 0
    for constant in (flat, same):
        assert np.abs(gradient(DIST(), teacher, constant)).max() < 10
        assert np.abs(gradient(DIST(), constant, student)).max() < 10
    assert float(DIST(gamma=0.0).compute_loss(teacher, flat)) == pytest.approx(1)  # rho is 0
    assert float(DIST(beta=0.0).compute_loss(teacher, same)) == pytest.approx(1)
    assert float(DIST(beta=0.0).compute_loss(same, same + 0)) == pytest.approx(0, abs=1e-7)


def test_tiny_probabilities_correlate_as_large_ones_do() -> None:
    teacher, student = example()
    teacher[:, 2] -= 25  # a class that is never likely, about 1e-11
    student[:, 2] -= 25
    assert float(DIST().compute_loss(teacher, student)) == pytest.approx(paper(teacher.astype(float), student.astype(float)), rel=1e-4)


def test_two_classes_and_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="DIST needs logits .* at least 3 classes"):
        DIST().compute_loss(np.zeros((4, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="`gamma`: expected a number from 0. Received: gamma=-2"):
        DIST(gamma=-2)
