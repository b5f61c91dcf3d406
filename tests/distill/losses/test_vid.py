"""Variational information distillation against NumPy in double precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.losses.vid import VID


def paper(teacher: np.ndarray, student: np.ndarray, maps: list[np.ndarray], scale: np.ndarray) -> np.ndarray:
    """The loss of each sample."""
    first, second, third = maps
    mean = np.maximum(np.maximum(student @ first, 0) @ second, 0) @ third
    variance = np.log1p(np.exp(scale)) + 1e-5
    values = ((mean - teacher) ** 2 / variance + np.log(variance)) / 2
    return values.reshape(len(values), -1).mean(1)


def parts(loss: VID, place: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    values = {weight.path.split("/")[-2] + "/" + weight.name: np.asarray(weight, float) for weight in loss.parts[place].weights}
    assert len(values) == 4
    return [values[f"map_{step}/kernel"] for step in range(3)], next(v for name, v in values.items() if name.endswith("scale"))


def features(batch: int, *shapes: tuple[int, ...], scale: float = 1.0) -> list[np.ndarray]:
    generator = np.random.default_rng(batch)
    return [(scale * generator.standard_normal((batch, *shape))).astype("float32") for shape in shapes]


def built(teacher: np.ndarray, student: np.ndarray, **settings: float) -> VID:
    loss = VID(**settings)
    loss.build([(None, *teacher.shape[1:])], [(None, *student.shape[1:])])
    return loss


@pytest.mark.parametrize("shapes", [((6,), (4,)), ((3, 5), (3, 4)), ((2, 3, 5), (2, 3, 4))])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_value_and_gradients(shapes: tuple[tuple[int, ...], ...], scale: float) -> None:
    teacher, student = features(3, *shapes, scale=scale)
    loss = built(teacher, student)
    loss.parts[0].scale.assign(np.linspace(-2, 3, shapes[0][-1]))
    maps, raw = parts(loss)
    variable = tf.Variable(student)
    layer = loss.parts[0]
    with tf.GradientTape() as tape:
        value = loss.compute_loss(tf.constant(teacher), tf.convert_to_tensor(variable))
    gradients = tape.gradient(value, [variable, *(part.kernel.value for part in layer.maps), layer.scale.value])
    wide = [teacher.astype(float), student.astype(float), *maps, raw]

    def expected(values: list[np.ndarray]) -> float:
        return float(paper(values[0], values[1], values[2:5], values[5]).mean())

    assert float(value) == pytest.approx(expected(wide), rel=1e-5, abs=1e-6)
    got = dict(enumerate(gradients, start=1))
    for which, gradient in got.items():
        slope = np.zeros(wide[which].shape)
        step = 1e-4 * (scale if which == 1 else 1)
        for place in np.ndindex(*slope.shape):
            for sign in (1, -1):
                moved = [values.copy() for values in wide]
                moved[which][place] += sign * step
                slope[place] += sign * expected(moved) / (2 * step)
        np.testing.assert_allclose(np.asarray(gradient), slope, rtol=1e-3, atol=1e-4 * np.abs(slope).max())


@pytest.mark.parametrize("variance", [0.01, 1.0, 5.0, 200.0])
def test_the_first_variance(variance: float) -> None:
    teacher, student = features(4, (6,), (3,))
    loss = built(teacher, student, variance=variance)
    _, got = loss.parts[0](student)
    np.testing.assert_allclose(np.asarray(got), variance, rtol=1e-4)


def test_the_variance_changes_the_result() -> None:
    teacher, student = features(4, (6,), (3,))
    assert float(built(teacher, student).compute_loss(teacher, student)) != pytest.approx(
        float(built(teacher, student, variance=1.0).compute_loss(teacher, student)), rel=0.05
    )
    for wrong in (0, -1, 1e-6, True):
        with pytest.raises(ValueError, match="`variance`: expected a number above"):
            VID(wrong)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("batch", [1, 4])
def test_finite_gradients_and_half_precision(scale: float, batch: int) -> None:
    teacher, student = features(batch, (2, 2, 5), (2, 2, 3), scale=scale)
    loss = built(teacher, student)
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = loss.compute_loss(teacher, tf.convert_to_tensor(variable))
    gradients = tape.gradient(value, [variable, *(weight.value for weight in loss.parts[0].trainable_weights)])
    assert np.isfinite(float(value)) and all(np.isfinite(np.asarray(gradient)).all() for gradient in gradients)
    halves = [tf.cast(values, "float16") for values in (teacher, student)]
    exact = float(loss.compute_loss(*(tf.cast(half, "float32") for half in halves)))
    assert float(loss.compute_loss(*halves)) == pytest.approx(exact, rel=1e-6)


def test_sample_weights_and_several_layers() -> None:
    teacher, student = features(4, (3, 3, 5), (3, 3, 4))
    loss = built(teacher, student)
    rows = paper(teacher.astype(float), student.astype(float), *parts(loss))
    weights = np.float32([0, 1, 2, 0.5])
    assert float(loss.compute_loss(teacher, student, sample_weight=weights)) == pytest.approx(rows @ weights / 4, rel=1e-5)
    both = VID(5.0, ("a", "b"), ("c", "d"))
    vectors = features(4, (6,), (2,))
    both.build([teacher.shape, vectors[0].shape], [student.shape, vectors[1].shape])
    expected = rows.mean() + paper(vectors[0].astype(float), vectors[1].astype(float), *parts(both, 1)).mean()
    assert float(both.compute_loss([teacher, vectors[0]], [student, vectors[1]])) == pytest.approx(expected, rel=1e-5)


def test_masked_steps_have_no_part() -> None:
    teacher, student = features(3, (4, 5), (4, 3))
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
    loss = built(teacher, student)
    rows = [
        paper(own[held][None].astype(float), other[held][None].astype(float), *parts(loss))
        for own, other, held in zip(teacher, student, mask, strict=True)
    ]
    assert float(loss.compute_loss(teacher, student, mask=tf.constant(mask))) == pytest.approx(np.mean(rows), rel=1e-5)


def test_the_parts_are_trained() -> None:
    teacher, student = features(32, (6,), (6,))
    teacher = (np.maximum(student, 0) @ np.eye(6, dtype="float32")[::-1]).astype("float32")
    loss = built(teacher, student)
    weights = loss.parts[0].trainable_weights
    optimizer = keras.optimizers.Adam(0.03)
    values = []
    optimizer.build(weights)

    @tf.function
    def step() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            value = loss.compute_loss(teacher, student)
        gradients = tape.gradient(value, [weight.value for weight in weights])
        optimizer.apply(gradients, weights)
        return value, gradients

    for _ in range(150):
        value, _ = step()
        values.append(float(value))
    assert values[-1] < values[0] - 0.5
    assert float(np.mean(loss.parts[0](student)[1])) < 4  # what is well told has a smaller variance


def test_config_round_trip_and_no_parts_no_loss() -> None:
    loss = VID(2.0, "a", "b")
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(revived) is VID and revived.get_config() == loss.get_config() and revived.variance == 2.0
    with pytest.raises(ValueError, match="VID trains parts of its own, which only kdfuse does"):
        loss.compute_loss(*features(2, (3,), (3,)))
    first, second = (built(*features(2, (3,), (3,))).parts[0].get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
