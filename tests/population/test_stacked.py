"""Several models as one: the same outputs, and which models cannot."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.population.stacked import Stacked, why_not_stacked

L = keras.layers
X = np.random.default_rng(0).normal(size=(3, 5, 4, 2)).astype("float32")


def net(seed=0, units=6, activation="tanh", **named):
    keras.utils.set_random_seed(seed)
    inside = [
        L.Rescaling(0.5),
        L.Flatten(),
        L.Dense(units, activation),
        L.LeakyReLU(),
        L.Dropout(0.5),
        L.Dense(3, use_bias=False),
        L.Softmax(),
    ]
    return keras.Sequential([keras.Input((4, 2)), *inside], **named)


def test_each_member_computes_what_its_model_does():
    models = [net(seed) for seed in range(3)]
    stacked = Stacked(models)
    made = stacked(tf.constant(X))
    np.testing.assert_allclose(made, [model(x) for model, x in zip(models, X, strict=True)], atol=1e-6)
    assert [tuple(one.shape) for one in stacked.variables] == [(3, 8, 6), (3, 6), (3, 6, 3)] and len(stacked.kernels) == 2
    assert not np.allclose(stacked(tf.constant(X), training=True), made)


def test_functional_chains_and_reshape():
    def build(seed):
        keras.utils.set_random_seed(seed)
        given = keras.Input((8,))
        x = L.Flatten()(L.Reshape((2, 4))(L.Dense(8, "gelu")(given)))
        return keras.Model(given, L.Dense(1)(x))

    models, x = [build(0), build(1)], X.reshape(3, 5, 8)[:2]
    np.testing.assert_allclose(Stacked(models)(tf.constant(x)), [model(rows) for model, rows in zip(models, x, strict=True)], atol=1e-6)


def test_weights_are_written_back():
    models = [net(0), net(1)]
    stacked = Stacked(models)
    stacked.variables[0].assign(stacked.variables[0] * 2)
    before = [model.get_weights()[0] for model in models]
    stacked.write()
    for model, weights in zip(models, before, strict=True):
        np.testing.assert_allclose(model.get_weights()[0], 2 * weights, rtol=1e-6)


def odd(layer, shape=(4, 2)):
    return keras.Sequential([keras.Input(shape), layer, L.Flatten(), L.Dense(3)])


def with_skip():
    given = keras.Input((4,))
    return keras.Model(given, L.Dense(3)(L.Add()([given, L.Dense(4)(given)])))


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([net(), net(1)], None), ([net(), net(units=7)], "differ in their layers"), ([net(), net(activation="relu")], "differ in their"),
        ([odd(L.BatchNormalization())], "BatchNormalization.* has no form"), ([odd(L.Dense(2))], "inputs with several axes"),
        ([odd(L.Softmax(axis=1))], "over another axis"), ([with_skip()], "Add.* has no form"),
        ([odd(L.Activation("relu", dtype="mixed_float16"))], "computes in float16"),
        ([keras.Sequential([keras.Input((4,)), L.Dense(3, kernel_regularizer="l2")])], "adds to the loss"),
        ([keras.Sequential([keras.Input((4,)), L.Dense(3, kernel_constraint="max_norm")])], "constraint"),
        ([keras.Sequential([keras.Input((4,)), L.Dense(3, trainable=False)])], "frozen"),
        ([keras.Sequential([L.Dense(3)])], "no graph of layers"),
    ],
)  # fmt: skip
def test_what_cannot_run_as_one_is_named(models, words):
    import re

    found = why_not_stacked(models)
    assert found is None if words is None else re.search(words, found), found
