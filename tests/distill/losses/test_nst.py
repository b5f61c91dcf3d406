"""Neuron selectivity transfer against NumPy in double precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.nst import NST


def paper(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """The squared discrepancy of each sample, from the kernel between every two channels."""

    def maps(features: np.ndarray) -> np.ndarray:
        rows = features.reshape(-1, features.shape[-1]).T
        lengths = np.sqrt((rows**2).sum(1, keepdims=True))
        return rows / np.where(lengths > 0, lengths, 1)

    def kernel(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.mean([[(a @ b) ** 2 for b in second] for a in first]))

    pairs = [(maps(own), maps(other)) for own, other in zip(teacher, student, strict=True)]
    return np.array([kernel(f, f) + kernel(g, g) - 2 * kernel(f, g) for f, g in pairs])


def features(batch: int, *shapes: tuple[int, ...], scale: float = 1.0) -> list[np.ndarray]:
    generator = np.random.default_rng(batch)
    return [(scale * generator.standard_normal((batch, *shape))).astype("float32") for shape in shapes]


def graded(teacher: np.ndarray, student: np.ndarray, **extra: object) -> tuple[float, np.ndarray]:
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = NST().compute_loss(tf.constant(teacher), tf.convert_to_tensor(variable), **extra)
    return float(value), np.asarray(tape.gradient(value, variable), np.float64)


SHAPES = [((2, 2, 9), (2, 2, 7)), ((5, 5, 3), (5, 5, 2)), ((6, 4), (6, 3)), ((2, 8), (2, 8)), ((2, 2, 2, 3), (2, 2, 2, 4))]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_value_and_gradient(shapes: tuple[tuple[int, ...], ...], scale: float) -> None:
    teacher, student = features(2, *shapes, scale=scale)
    value, gradient = graded(teacher, student)
    assert value == pytest.approx(paper(teacher.astype(float), student.astype(float)).mean(), rel=2e-5)
    step, expected = 1e-6 * scale, np.zeros(student.shape)
    for place in np.ndindex(*student.shape):
        for sign in (1, -1):
            moved = student.astype(float)
            moved[place] += sign * step
            expected[place] += sign * paper(teacher.astype(float), moved).mean() / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("shapes", SHAPES)
def test_zero_where_the_maps_are_the_same(shapes: tuple[tuple[int, ...], ...]) -> None:
    (teacher,) = features(3, shapes[0])
    turned = 7 * teacher[..., np.random.default_rng(0).permutation(teacher.shape[-1])]
    assert graded(teacher, turned)[0] == pytest.approx(0, abs=1e-6)
    assert graded(teacher, np.concatenate([teacher, teacher], -1))[0] == pytest.approx(0, abs=1e-6)


def test_sizes_that_are_not_known_and_sizes_that_differ() -> None:
    teacher, student = features(3, (6, 6, 4), (6, 6, 3))
    expected = paper(teacher.astype(float), student.astype(float)).mean()
    signature = [tf.TensorSpec((None, None, None, 4)), tf.TensorSpec((None, None, None, 3))]
    run = tf.function(lambda a, b: NST().compute_loss(a, b), input_signature=signature)
    assert float(run(teacher, student)) == pytest.approx(expected, rel=1e-5)
    small = student.reshape(3, 3, 2, 3, 2, 3).mean((2, 4))
    pooled = teacher.reshape(3, 3, 2, 3, 2, 4).mean((2, 4))
    assert graded(teacher, small)[0] == pytest.approx(paper(pooled.astype(float), small.astype(float)).mean(), rel=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("batch", [1, 4])
def test_channels_of_zeros_have_gradients(scale: float, batch: int) -> None:
    for shapes in SHAPES[:2]:
        teacher, student = features(batch, *shapes, scale=scale)
        student[..., 0] = 0
        value, gradient = graded(teacher, student)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        assert value == pytest.approx(paper(teacher.astype(float), student.astype(float)).mean(), rel=1e-4, abs=1e-7)


def test_sample_weights_and_half_precision() -> None:
    teacher, student = features(4, (3, 3, 4), (3, 3, 2))
    rows = paper(teacher.astype(float), student.astype(float))
    weights = np.float32([0, 1, 2, 0.5])
    assert graded(teacher, student, sample_weight=weights)[0] == pytest.approx(rows @ weights / 4, rel=1e-5)
    halves = [tf.cast(values, "float16") for values in (teacher, student)]
    value = NST().compute_loss(*halves)
    assert value.dtype == "float32"
    assert float(value) == pytest.approx(paper(*(np.asarray(half, float) for half in halves)).mean(), rel=1e-5)


def test_vectors_are_refused() -> None:
    message = "NST compares maps over positions: it needs features .* of rank 3"
    with pytest.raises(ValueError, match=message):
        NST().compute_loss(*features(2, (4,), (4,)))
    with pytest.raises(ValueError, match=message):
        NST().compute_loss(*features(2, (3, 3, 4), (4,)))
    with pytest.raises(ValueError, match=message):
        NST().build([(None, 4)], [(None, 4)])
    NST().build([(None, 8, 8, 4)], [(None, 4, 4, 3)])


def test_config_round_trip() -> None:
    loss = NST("a", "b")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(revived) is NST and revived.get_config() == loss.get_config() == {"teacher_layer_name": "a", "student_layer_name": "b"}
