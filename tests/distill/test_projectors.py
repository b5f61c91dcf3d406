"""Features of one shape brought to another, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.projectors import matched_shapes, matching, projector


def features(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype("float32")


def shrunk(size: int, given: int) -> np.ndarray:
    """`[size, given]`: linear interpolation with antialiasing, a triangle as wide as the step between outputs."""
    step = given / size
    places = (np.arange(size) + 0.5) * step
    weights = np.maximum(0, 1 - np.abs(places[:, None] - (np.arange(given) + 0.5)) / max(step, 1))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("teacher", "student", "matched"),
    [
        ((None, 5), (None, 3), ((None, 5), (None, 3))),
        ((8, 6, 4, 5), (8, 3, 4, 2), ((8, 3, 4, 5), (8, 3, 4, 2))),
        ((None, 4, 8, 5), (None, 8, 4, 5), ((None, 4, 4, 5), (None, 4, 4, 5))),
        ((None, None, 5), (None, 7, 2), ((None, None, 5), (None, None, 2))),
        ((None, 6, 4, 5), (None, 2), ((None, 5), (None, 2))),
        ((None, 6, 5), (None, 3, 3, 2), ((None, 5), (None, 2))),
        ((None, 4, 6, 2, 5), (None, 2, 3, 2, 1), ((None, 2, 3, 2, 5), (None, 2, 3, 2, 1))),
    ],
)
def test_shapes_that_match(teacher: tuple, student: tuple, matched: tuple) -> None:
    assert matched_shapes(teacher, student) == matched
    assert matched_shapes(student, teacher) == matched[::-1]
    if None not in teacher[1:] + student[1:]:
        found = matching(features(8, *teacher[1:]), features(8, *student[1:]))
        assert tuple(tuple(one.shape)[1:] for one in found) == tuple(shape[1:] for shape in matched)


def test_shapes_that_do_not() -> None:
    with pytest.raises(ValueError, match=r"The student's features need a batch axis and channels of a known number.* the shape \(8,\)"):
        matched_shapes((8, 3), (8,))
    with pytest.raises(ValueError, match="The teacher's features need"):
        matched_shapes((8, None), (8, 3))


def test_multiples_are_averaged_over_blocks() -> None:
    large, small = features(3, 8, 6, 5), features(3, 4, 2, 2)
    found, same = matching(large, small)
    np.testing.assert_allclose(found, large.reshape(3, 4, 2, 2, 3, 5).mean((2, 4)), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(same, small)
    long, short = features(3, 6, 5), features(3, 2, 4)
    np.testing.assert_allclose(matching(short, long)[1], long.reshape(3, 2, 3, 5).mean(2), rtol=1e-5, atol=1e-7)
    volume = features(2, 4, 6, 2, 3)
    found, _ = matching(volume, features(2, 2, 3, 2, 3))
    np.testing.assert_allclose(found, volume.reshape(2, 2, 2, 3, 2, 2, 3).mean((2, 4)), rtol=1e-5, atol=1e-7)


def test_each_model_may_be_the_larger_along_one_axis() -> None:
    wide, tall = features(2, 4, 8, 3), features(2, 8, 4, 5)
    found = matching(wide, tall)
    np.testing.assert_allclose(found[0], wide.reshape(2, 4, 4, 2, 3).mean(3), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[1], tall.reshape(2, 4, 2, 4, 5).mean(2), rtol=1e-5, atol=1e-7)


def test_other_sizes_are_interpolated() -> None:
    image, sequence = features(2, 7, 9, 3), features(2, 7, 3)
    expected = np.einsum("ih,jw,bhwc->bijc", shrunk(5, 7), shrunk(4, 9), image)
    np.testing.assert_allclose(matching(image, features(2, 5, 4, 1))[0], expected, rtol=1e-4, atol=1e-5)
    resized = tf.image.resize(image, (5, 4), antialias=True)
    np.testing.assert_allclose(matching(image, features(2, 5, 4, 1))[0], resized, rtol=1e-4, atol=1e-5)
    volume = features(2, 7, 4, 6, 3)
    expected = np.einsum("ih,bhwdc->biwdc", shrunk(5, 7), volume.reshape(2, 7, 2, 2, 6, 3).mean(3))
    np.testing.assert_allclose(matching(volume, features(2, 5, 2, 6, 1))[0], expected, rtol=1e-4, atol=1e-5)
    expected = np.einsum("ih,bhc->bic", shrunk(5, 7), sequence)
    np.testing.assert_allclose(matching(features(2, 5, 1), sequence)[1], expected, rtol=1e-4, atol=1e-5)
    expected = np.einsum("jw,bhwc->bhjc", shrunk(4, 9), features(2, 8, 9, 3).reshape(2, 4, 2, 9, 3).mean(2))
    np.testing.assert_allclose(matching(features(2, 8, 9, 3), features(2, 4, 4, 1))[0], expected, rtol=1e-4, atol=1e-5)


def test_other_ranks_are_averaged_over_all_positions() -> None:
    image, sequence, vector = features(3, 4, 5, 6), features(3, 4, 2), features(3, 7)
    for other in (sequence, vector):
        np.testing.assert_allclose(matching(image, other)[0], image.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(matching(image, sequence)[1], sequence.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(matching(vector, image)[0], vector)


def test_sizes_that_are_not_known_before_the_batch() -> None:
    @tf.function(input_signature=[tf.TensorSpec((None, None, 7, 3)), tf.TensorSpec((None, None, 5, 2))])
    def compute(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        return matching(teacher, student)

    teacher, student = features(2, 6, 7, 3), features(2, 6, 5, 2)
    found = compute(teacher, student)
    np.testing.assert_allclose(found[0], np.einsum("jw,bhwc->bhjc", shrunk(5, 7), teacher), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[1], student)


def test_gradients_come_through() -> None:
    for size, other in ((8, 4), (7, 5)):
        variable = tf.Variable(features(2, size, size, 3))
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(matching(features(2, other, other, 1), tf.convert_to_tensor(variable))[1] ** 2)
        slope = tape.gradient(value, variable)
        rows = np.kron(np.eye(4), np.full((1, 2), 0.5)) if size == 8 else shrunk(5, 7)
        expected = 2 * np.einsum("ih,jw,ik,jl,bklc->bhwc", rows, rows, rows, rows, variable.numpy())
        np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-5)


def test_is_compiled_by_xla() -> None:
    teacher, student = features(2, 7, 8, 3), features(2, 5, 4, 3)
    found = tf.function(matching, jit_compile=True)(tf.constant(teacher), tf.constant(student))
    for one, expected in zip(found, matching(teacher, student), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(None, 4), (None, 5, 4), (None, 3, 3, 4)])
def test_a_projector_is_a_linear_map_of_the_channels(shape: tuple) -> None:
    layer = projector(shape, 6, "there", seed=3)
    assert layer.built and layer.name == "there" and [weight.dtype for weight in layer.weights] == ["float32", "float32"]
    given = features(2, *shape[1:])
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(layer(given), given @ kernel + bias, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(projector(shape, 6, "again", seed=3).get_weights()[0], kernel)
    assert not np.array_equal(projector(shape, 6, "other", seed=4).get_weights()[0], kernel)


def test_a_projector_stays_in_float32_under_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = projector((None, 4), 2, "wide", seed=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert layer.compute_dtype == "float32" and layer(tf.zeros((1, 4), "float16")).dtype == "float32"
