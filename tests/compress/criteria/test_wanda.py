"""Wanda's scores against NumPy: |w| times the norm of the input feature."""

import keras
import numpy as np
import pytest

from kdfuse.compress.criteria.wanda import Wanda
from kdfuse.compress.kernels import find
from kdfuse.data import Data

layers = keras.layers
RNG = np.random.default_rng(0)


def measured(layer, x, rows=None, seed=0):
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    kernels, _ = find(model)
    found = Wanda(rows or len(x), seed).measure(model, kernels, Data(train=(x, np.arange(len(x)) % 2)))
    return kernels, found


def norms(x, axis):
    return np.sqrt((x.astype("float64") ** 2).sum(tuple(one for one in range(x.ndim) if one != axis % x.ndim)))


def test_dense_and_sequences_of_it():
    for shape in ((70, 6), (70, 5, 6)):
        x = RNG.normal(2, 3, shape).astype("float32")
        (kernel,), (found,) = measured(layers.Dense(4), x)
        np.testing.assert_allclose(found[0, :, 0], norms(x, -1), rtol=1e-5)
        weights = kernel.view(kernel.variable.numpy())
        np.testing.assert_allclose(Wanda().scores(weights, found)[0], np.abs(weights[0]) * norms(x, -1)[:, None], rtol=1e-5)


def test_convolutions_by_channel_and_by_group():
    x = RNG.normal(size=(40, 5, 5, 4)).astype("float32")
    x[..., 1] *= 9
    _, (found,) = measured(layers.Conv2D(6, 3), x)
    np.testing.assert_allclose(found[0, :, 0], norms(x, -1), rtol=1e-5)
    (kernel,), (found,) = measured(layers.Conv2D(6, 3, groups=2), x)
    assert found.shape == (1, 2, 6)
    for output in range(6):
        np.testing.assert_allclose(found[0, :, output], norms(x, -1)[2 * (output // 3) :][:2], rtol=1e-5)
    assert Wanda().scores(kernel.view(kernel.variable.numpy()), found).shape == (9, 2, 6)


@pytest.mark.parametrize(
    ("equation", "output", "shape"),
    [
        ("abc,cde->abde", (None, 2, 3), (5, 4)),
        ("abcd,cde->abe", (None, 3), (5, 2, 4)),
        ("abc,bcd->abd", (5, 3), (5, 4)),
        ("...x,xy->...y", 3, (5, 4)),
    ],
)
def test_einsum_norms_are_those_of_what_a_weight_multiplies(equation, output, shape):
    x = RNG.normal(size=(30, *shape)).astype("float32")
    (kernel,), (found,) = measured(layers.EinsumDense(equation, output), x)
    # By hand: the squares that each weight meets, summed with the layer's own equation, the kernel's outputs left out.
    read, weights = equation.replace("...", "za").split("->")[0].split(",")
    made = "".join(weights[axis] for axis in (*kernel.axes[0], *kernel.axes[1]))
    expected = np.sqrt(np.einsum(f"{read}->{made}", x.astype("float64") ** 2)).reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_attention_recurrent_and_separable_layers():
    x = RNG.normal(size=(20, 6, 8)).astype("float32")
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 4)(inputs, inputs))
    kernels, _ = find(model)
    found = Wanda().measure(model, kernels, Data(train=(x, np.arange(20) % 2)))
    assert all(one is not None for one in found)
    np.testing.assert_allclose(found[0][0, :, 0], norms(x, -1), rtol=1e-5)
    for layer, given in ((layers.LSTM(3), x), (layers.SeparableConv1D(3, 2), x)):
        kernels, found = measured(layer, given)
        assert found == [None] * len(kernels)
        weights = kernels[0].view(kernels[0].variable.numpy())
        assert np.array_equal(Wanda().scores(weights, None), np.abs(weights)) and "by magnitude" in Wanda().note(kernels[0], None)


def test_a_shared_layer_counts_all_its_calls():
    shared = layers.Dense(4, use_bias=False)
    x = RNG.normal(size=(20, 4)).astype("float32")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(shared(inputs)))
    kernels, _ = find(model)
    (found,) = Wanda().measure(model, kernels, Data(train=(x, np.arange(20) % 2)))
    np.testing.assert_allclose(found[0, :, 0], np.sqrt(norms(x, 1) ** 2 + norms(x @ shared.kernel.numpy(), 1) ** 2), rtol=1e-5)


def test_rows_and_seed_decide_on_the_draw():
    x = RNG.normal(size=(90, 3)).astype("float32")
    one, few, other = (measured(layers.Dense(2), x, *given)[1][0] for given in ((90,), (20, 0), (20, 1)))
    assert (one > few).all() and not np.array_equal(few, other)
    for wrong in ({"rows": 0}, {"rows": 1.5}, {"seed": -1}):
        with pytest.raises(ValueError, match="of Wanda"):
            Wanda(**wrong)
