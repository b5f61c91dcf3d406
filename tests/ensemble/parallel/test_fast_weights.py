"""Fast weights: the layers of a BatchEnsemble against NumPy, their files, what an L2 penalty meets."""

import keras
import numpy as np
import pytest

from kdfuse.ensemble.parallel.fast_weights import FastWeights, ForMembers, OverMembers, Signs
from kdfuse.graph.copy import copy_model
from kdfuse.graph.macs import count_macs
from kdfuse.graph.renew import renew

L = keras.layers
RNG = np.random.default_rng(0)


def draw(layer):
    """Any numbers for all weights of a layer."""
    for variable in layer.weights:
        variable.assign(RNG.normal(size=variable.shape))
    return layer


def of(layer, name, members=3):
    return keras.ops.convert_to_numpy(getattr(layer, name)).reshape(members, -1)


def test_dense_against_numpy():
    x = RNG.normal(size=(7, 5)).astype("float32")
    layer = FastWeights(L.Dense(4, use_bias=False), 3, "tanh")
    layer(x)
    draw(layer)
    kernel = keras.ops.convert_to_numpy(layer.layer.kernel)
    wanted = [np.tanh((x[row] * of(layer, "r")[row % 3]) @ kernel * of(layer, "s")[row % 3] + of(layer, "b")[row % 3]) for row in range(7)]
    np.testing.assert_allclose(layer(x), wanted, atol=1e-5)
    for member in range(3):  # the same with a kernel of its own
        alone = np.tanh(x @ layer.kernel_of(member) + layer.bias_of(member))
        np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x))[member::3], alone[member::3], atol=1e-5)
    np.testing.assert_allclose(layer.kernel_of(1), kernel * np.outer(of(layer, "r")[1], of(layer, "s")[1]), atol=1e-6)


def test_dense_on_sequences_and_without_bias():
    x = RNG.normal(size=(4, 6, 5)).astype("float32")
    layer = FastWeights(L.Dense(2, use_bias=False), 2, use_bias=False)
    layer(x)
    draw(layer)
    assert layer.b is None
    found = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(found[1::2], x[1::2] @ layer.kernel_of(1), atol=1e-5)


@pytest.mark.parametrize(("groups", "strides", "padding"), [(1, 1, "same"), (2, 2, "valid")])
def test_conv2d_against_one_convolution_a_member(groups, strides, padding):
    x = RNG.normal(size=(6, 7, 7, 4)).astype("float32")
    layer = FastWeights(L.Conv2D(6, 3, strides, padding, groups=groups, use_bias=False), 3, "relu")
    layer(x)
    draw(layer)
    for member in range(3):
        plain = L.Conv2D(6, 3, strides, padding, groups=groups, activation="relu")
        plain.build(x.shape)
        plain.set_weights([layer.kernel_of(member), layer.bias_of(member)])
        np.testing.assert_allclose(layer(x)[member::3], plain(x)[member::3], atol=1e-5)
    for output in range(6):  # and of the kernel by hand
        first = output // 3 * 2 if groups == 2 else 0
        r = of(layer, "r")[2][first : first + 4 // groups]
        wanted = layer.layer.kernel.numpy()[..., output] * r * of(layer, "s")[2][output]
        np.testing.assert_allclose(layer.kernel_of(2)[..., output], wanted, atol=1e-6)


def test_channels_first_has_its_vectors_along_axis_1():
    layer = FastWeights(L.Conv2D(3, 1, data_format="channels_first", use_bias=False), 2)
    layer.build((None, 4, 5, 5))
    assert layer.r.shape == (8,) and layer.s.shape == (6,)
    rows = layer._of(np.array([0, 1]), layer.r, np.zeros((2, 4, 5, 5)))
    assert rows.shape == (2, 4, 1, 1)


def test_rows_are_repeated_and_averaged_in_inference_alone():
    x = RNG.normal(size=(5, 3)).astype("float32")
    many = ForMembers(4)(x)
    np.testing.assert_array_equal(many, np.repeat(x, 4, axis=0))
    values = RNG.normal(size=(20, 3)).astype("float32")
    np.testing.assert_allclose(OverMembers(4)(values), [values[4 * row : 4 * row + 4].mean(axis=0) for row in range(5)], atol=1e-6)
    assert np.array_equal(ForMembers(4)(x, training=True), x) and np.array_equal(OverMembers(4)(values, training=True), values)


def test_signs_are_a_function_of_the_seed_and_drawn_anew():
    first, again, other = (np.asarray(Signs(seed)((1000,))) for seed in (1, 1, 2))
    assert set(np.unique(first)) == {-1.0, 1.0} and abs(first.mean()) < 0.1
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    model = whole()
    assert not np.array_equal(renew(model, 1).get_layer("fast").r, renew(model, 2).get_layer("fast").r)


def whole():
    inputs = keras.Input((6,))
    x = FastWeights(L.Dense(5, use_bias=False, kernel_regularizer="l2"), 2, "relu", name="fast")(ForMembers(2)(inputs))
    return keras.Model(inputs, OverMembers(2)(x))


def test_files_copies_and_macs(tmp_path):
    model, x = whole(), RNG.normal(size=(3, 6)).astype("float32")
    draw(model.get_layer("fast"))
    model.save(tmp_path / "fast.keras")
    for other in (keras.models.load_model(tmp_path / "fast.keras"), copy_model(model)):
        assert np.array_equal(other(x), model(x))
        assert other.get_layer("fast").activation is keras.activations.relu and other.get_layer("fast").layer.kernel_regularizer is not None
    assert count_macs(model, x) == 2 * 6 * 5


def test_a_penalty_is_on_the_kernel_alone():
    layer = whole().get_layer("fast")
    assert [weight.name for weight in layer.trainable_weights if len(weight.shape) > 1] == ["kernel"]


def test_half_precision():
    layer = FastWeights(L.Dense(4, use_bias=False, dtype="mixed_float16"), 2, dtype="mixed_float16")
    assert layer(np.ones((4, 3), "float32")).dtype == "float16" and layer.r.dtype == "float32"
