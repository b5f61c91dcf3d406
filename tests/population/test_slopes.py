import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.population.slopes import SLOPES, Elu, LeakyRelu, Relu

Z = np.concatenate([np.linspace(-6, 6, 41), [0.5, 2.0]]).astype("float32")
LAYERS = [
    (Relu(negative_slope=0.1, threshold=0.5, max_value=2.0), keras.layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.5)),
    (Relu(max_value=3.0), keras.layers.ReLU(max_value=3.0)),
    (Relu(threshold=1.0), keras.layers.ReLU(threshold=1.0)),
    (LeakyRelu(0.3), keras.layers.LeakyReLU(0.3)),
    (Elu(alpha=0.7), keras.layers.ELU(0.7)),
]
FUNCTIONS = [(SLOPES[name](), keras.activations.get(name)) for name in SLOPES if name != "softmax"]


@pytest.mark.parametrize(("slope", "theirs"), [*LAYERS, *FUNCTIONS], ids=lambda one: getattr(one, "name", getattr(one, "__name__", "")))
def test_value_and_gradient_are_those_of_keras(slope, theirs):
    x = tf.constant(Z)
    with tf.GradientTape() as tape:
        tape.watch(x)
        made = theirs(x)
    value = slope.value(Z)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, np.asarray(made), rtol=2e-6, atol=5e-7)
    inner = ~np.isin(Z, (0.0, 0.5, 1.0, 2.0, 3.0))  # at a corner each may choose its side
    found = slope.times(np.full_like(Z, 3.0), Z, value)
    np.testing.assert_allclose(found[inner], 3 * np.asarray(tape.gradient(made, x))[inner], rtol=1e-5, atol=2e-6)


def test_softmax_is_that_of_keras():
    rows = Z[:40].reshape(8, 5)
    np.testing.assert_allclose(SLOPES["softmax"]().value(rows), np.asarray(keras.activations.softmax(rows)), rtol=1e-5, atol=1e-7)
