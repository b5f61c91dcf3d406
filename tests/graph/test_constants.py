import keras
import numpy as np
import pytest

from kdfuse.graph.constants import remove_constant
from kdfuse.graph.copy import copy_model

layers = keras.layers
RNG = np.random.default_rng(0)


def dead(model, *names, units=3):
    """The model with random biases, and the first units of some layers without weights of their own."""
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None and hasattr(layer, "kernel"):
            layer.bias.assign(RNG.normal(0, 0.5, layer.bias.shape))
        if layer.name in names:
            kernel = layer.kernel.numpy()
            kernel[..., :units] = 0
            layer.kernel.assign(kernel)
    return model


def kept(model, x, *names):
    """How many units the layers have afterwards; the outputs are as before."""
    before = np.asarray(model(x))
    small = remove_constant(copy_model(model))
    np.testing.assert_allclose(small(x), before, atol=2e-6 * max(1, np.abs(before).max()))
    return [small.get_layer(name).kernel.shape[-1] for name in names]


def through(*stack, units=8, head=None, shape=(4,)):
    i = keras.Input(shape)
    x = layers.Dense(units, "tanh", name="a")(i)
    for layer in stack:
        x = layer(x)
    return keras.Model(i, (head or layers.Dense(2))(x)), RNG.normal(size=(3, *shape)).astype("float32")


PASSED = {
    "nothing": (),
    "norm and activation": (layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.2), layers.PReLU()),
    "another layer": (layers.Dense(6, "relu"),),
    "flat": (layers.Reshape((2, 4)), layers.Permute((2, 1)), layers.Flatten()),
}


@pytest.mark.parametrize("case", PASSED)
def test_a_constant_is_added_to_the_next_bias(case):
    model, x = through(*PASSED[case])
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(RNG.normal(size=8))
            layer.beta.assign(RNG.normal(size=8))
    # Reshaping to [2, 4] and back unites the units at the same place of both rows: 0 with 4 and so on, of which only one is constant.
    assert kept(dead(model, "a"), x, "a") == [8 if case == "flat" else 5]


def test_units_that_nobody_reads_go_and_then_those_before_them():
    model, x = through(layers.Dense(6, "relu", name="b"))
    head = model.layers[-1].kernel.numpy()
    head[1] = 0
    model.layers[-1].kernel.assign(head)
    kernel = model.get_layer("b").kernel.numpy()
    kernel[2, [0, 2, 3, 4, 5]] = 0  # unit 2 of a is read by unit 1 of b alone
    model.get_layer("b").kernel.assign(kernel)
    assert kept(model, x, "a", "b") == [7, 5]


def test_a_layer_keeps_one_unit():
    model, x = through()
    assert kept(dead(model, "a", units=8), x, "a") == [1]


def conv(padding, use_bias=True, activation="relu"):
    i = keras.Input((6, 6, 2))
    x = layers.MaxPooling2D()(layers.Conv2D(6, 3, padding="same", activation=activation, name="a")(i))
    x = layers.Conv2D(5, 2, padding=padding, use_bias=use_bias, name="b")(x)
    model = keras.Model(i, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    return dead(model, "a"), RNG.normal(size=(3, 6, 6, 2)).astype("float32")


def test_a_constant_other_than_zero_stays_before_padding_and_without_bias():
    model, x = conv("valid")
    assert kept(model, x, "a") == [3]
    for given in (conv("same"), conv("valid", use_bias=False)):
        model, x = given
        bias = np.array([-1.0, -1.0, 1.0, 0, 0, 0])  # after ReLU: 0, 0, 1
        model.get_layer("a").bias.assign(bias)
        assert kept(model, x, "a") == [4]


def test_what_is_added_or_multiplied_must_be_constant_too():
    i = keras.Input((4,))
    a, b = layers.Dense(6, name="a")(i), layers.Dense(6, name="b")(i)
    x = RNG.normal(size=(3, 4)).astype("float32")
    assert kept(dead(keras.Model(i, layers.Dense(2)(a + b)), "a"), x, "a") == [6]
    i = keras.Input((4,))
    a, b = layers.Dense(6, "relu", name="a")(i), layers.Dense(6, name="b")(i)
    model = dead(keras.Model(i, layers.Dense(2)(layers.Multiply()([a, b]))), "a")
    model.get_layer("a").bias.assign(-np.ones(6))
    assert kept(model, x, "a", "b") == [3, 3]  # a factor of 0


def test_protected_groups_and_recurrent_readers_stay():
    model, x = through()
    dead(model, "a")
    assert remove_constant(model, ["a"]) is model
    i = keras.Input((4,))
    a = layers.Dense(6, name="a")(i)
    model = dead(keras.Model(i, layers.Dense(2)(layers.LSTM(3)(layers.Reshape((1, 6))(a)))), "a")
    assert kept(model, x, "a") == [6]
    model.get_layer("a").bias.assign(np.zeros(6))
    assert kept(model, x, "a") == [3]


def test_a_softmax_between_has_no_constant_units():
    i = keras.Input((6,))
    gate = layers.Dense(4, activation="softmax", name="gate")(i)
    model = keras.Model(i, layers.Dense(2)(layers.Dense(5, activation="tanh", name="h")(gate)))
    for weight in model.weights:
        weight.assign(RNG.normal(size=weight.shape))
    for name, index in (("gate", np.s_[:, 0]), ("h", np.s_[1:, 2])):
        kernel = model.get_layer(name).kernel.numpy()
        kernel[index] = 0
        model.get_layer(name).kernel.assign(kernel)
    assert kept(model, RNG.normal(size=(7, 6)).astype("float32"), "gate", "h") == [4, 5]
