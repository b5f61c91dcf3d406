"""Relational knowledge distillation against NumPy in double precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.rkd import RKD


def huber(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) <= 1, values**2 / 2, np.abs(values) - 0.5)


def relations(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances over their mean, and the cosines of the angles at the first of three."""
    rows = rows.reshape(len(rows), -1)
    arrows = rows[None] - rows[:, None]
    distances = np.sqrt((arrows**2).sum(-1))
    lengths = np.where(distances > 0, distances, 1)
    units = arrows / lengths[..., None]
    mean = distances[distances > 0].mean() if (distances > 0).any() else 1.0
    return distances / mean, np.einsum("ijd,ikd->ijk", units, units)


def paper(teacher: np.ndarray, student: np.ndarray, distance: float = 25.0, angle: float = 50.0) -> float:
    (far_t, turn_t), (far_s, turn_s) = relations(teacher), relations(student)
    return float(distance * huber(far_s - far_t).mean() + angle * huber(turn_s - turn_t).mean())


def slopes(function, student: np.ndarray, step: float) -> np.ndarray:
    found = np.zeros_like(student)
    for place in np.ndindex(*student.shape):
        for sign in (1, -1):
            moved = student.copy()
            moved[place] += sign * step
            found[place] += sign * function(moved) / (2 * step)
    return found


def features(batch: int, *shapes: tuple[int, ...], scale: float = 1.0) -> list[np.ndarray]:
    generator = np.random.default_rng(batch)
    return [(scale * generator.standard_normal((batch, *shape))).astype("float32") for shape in shapes]


def graded(loss: RKD, teacher: np.ndarray, student: np.ndarray, **extra: object) -> tuple[float, np.ndarray]:
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = loss.compute_loss(tf.constant(teacher), tf.convert_to_tensor(variable), **extra)
    return float(value), np.asarray(tape.gradient(value, variable), np.float64)


@pytest.mark.parametrize("factors", [(25.0, 50.0), (1.0, 0.0), (0.0, 1.0), (3.0, 7.0)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_value_and_gradient(factors: tuple[float, float], scale: float) -> None:
    teacher, student = features(7, (5,), (3,), scale=scale)
    value, gradient = graded(RKD(*factors), teacher, student)
    assert value == pytest.approx(paper(teacher.astype(float), student.astype(float), *factors), rel=1e-5)
    expected = slopes(lambda moved: paper(teacher.astype(float), moved, *factors), student.astype(float), 1e-6 * scale)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_linear_part_of_huber() -> None:
    teacher, student = features(6, (2,), (2,))
    teacher[0] += 100
    assert np.abs(relations(student)[0] - relations(teacher)[0]).max() > 1
    value, gradient = graded(RKD(), teacher, student)
    assert value == pytest.approx(paper(teacher.astype(float), student.astype(float)), rel=1e-5)
    expected = slopes(lambda moved: paper(teacher.astype(float), moved), student.astype(float), 1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_maps_and_vectors_are_flattened() -> None:
    teacher, student = features(5, (4, 4, 3), (2, 2, 6))
    assert graded(RKD(), teacher, student)[0] == pytest.approx(paper(teacher.astype(float), student.astype(float)), rel=1e-5)
    teacher, student = features(5, (4, 4, 3), (7,))
    assert graded(RKD(), teacher, student)[0] == pytest.approx(paper(teacher.astype(float), student.astype(float)), rel=1e-5)


def test_an_offset_costs_no_accuracy() -> None:
    teacher, student = features(8, (5,), (4,))
    moved = np.round(student * 64) / 64 + 1024  # the same numbers, exactly, further out
    assert graded(RKD(), teacher, moved)[0] == pytest.approx(paper(teacher.astype(float), moved.astype(float)), rel=1e-4)


def test_size_place_and_turn_do_not_matter() -> None:
    teacher, _ = features(8, (5,), (5,))
    turned = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))[0].astype("float32")
    assert graded(RKD(), teacher, 3 * teacher @ turned + 2)[0] == pytest.approx(0, abs=1e-6)
    assert graded(RKD(), teacher, teacher)[0] == 0


def test_small_batches() -> None:
    for batch in (1, 2):
        teacher, student = features(batch, (4,), (3,))
        value, gradient = graded(RKD(), teacher, student)
        assert value == pytest.approx(0, abs=1e-6) and np.allclose(gradient, 0, atol=1e-5)  # one distance is its own mean
        assert graded(RKD(0.0, 50.0), teacher, student)[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 50.0, 1e4])
def test_equal_samples_have_gradients(scale: float) -> None:
    teacher, student = features(6, (4,), (3,), scale=scale)
    student[1] = student[0]
    student[2] = student[0]
    teacher[5] = teacher[4]
    value, gradient = graded(RKD(), teacher, student)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert value == pytest.approx(paper(teacher.astype(float), student.astype(float)), rel=1e-5)
    assert np.isfinite(graded(RKD(), teacher, 0 * student)[1]).all()


def test_sample_weights() -> None:
    teacher, student = features(8, (5,), (3,))
    value, gradient = graded(RKD(), teacher, student)
    assert graded(RKD(), teacher, student, sample_weight=np.full(8, 3.0, "float32"))[0] == pytest.approx(3 * value, rel=1e-5)
    weights = np.float32([1, 0, 1, 1, 0, 1, 1, 0])
    held = weights > 0
    expected, slope = graded(RKD(), teacher[held], student[held])
    student[~held], teacher[~held] = 1e6, np.nan
    got, gradient = graded(RKD(), teacher, student, sample_weight=weights)
    assert got == pytest.approx(5 / 8 * expected, rel=1e-5)
    np.testing.assert_allclose(gradient[held], 5 / 8 * slope, rtol=1e-4, atol=1e-6)
    assert (gradient[~held] == 0).all()


def test_pairs_and_triples_count_by_roots() -> None:
    teacher, student = features(6, (5,), (3,))
    weights = np.float32([0.5, 2, 1, 3, 0.1, 1])
    (far_t, turn_t), (far_s, turn_s) = relations(teacher.astype(float)), relations(student.astype(float))
    pairs = np.sqrt(weights[:, None] * weights[None])
    triples = np.cbrt(weights[:, None, None] * weights[None, :, None] * weights[None, None])
    expected = 25 * (pairs * huber(far_s - far_t)).mean() + 50 * (triples * huber(turn_s - turn_t)).mean()
    assert graded(RKD(), teacher, student, sample_weight=weights)[0] == pytest.approx(expected, rel=1e-5)


def test_half_precision_and_config() -> None:
    teacher, student = (tf.cast(rows, "float16") for rows in features(8, (5,), (3,), scale=50.0))
    value = RKD().compute_loss(teacher, student)
    assert value.dtype == "float32"
    assert float(value) == pytest.approx(paper(np.asarray(teacher, float), np.asarray(student, float)), rel=1e-5)
    loss = RKD(3, 0.5, ("a", "b"), ("c", "d"))
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(revived) is RKD and revived.get_config() == loss.get_config() == RKD.from_config(loss.get_config()).get_config()
    assert (revived.distance, revived.angle, revived.teacher_layers) == (3.0, 0.5, ("a", "b"))


@pytest.mark.parametrize(
    ("wrong", "message"), [({"distance": -1}, "`distance`"), ({"angle": float("nan")}, "`angle`"), ({"angle": True}, "`angle`")]
)
def test_wrong_factors(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}: expected a number from 0. Received"):
        RKD(**wrong)
    with pytest.raises(ValueError, match="at least one above 0"):
        RKD(0, 0)


def test_compiled() -> None:
    teacher, student = features(8, (5,), (3,))
    run = tf.function(lambda a, b: RKD().compute_loss(a, b), jit_compile=True)
    assert float(run(teacher, student)) == pytest.approx(paper(teacher.astype(float), student.astype(float)), rel=1e-5)
