import keras
import numpy as np
import pytest

from kdfuse.compress.least_squares import reconstruct, solve
from kdfuse.data import Data
from kdfuse.graph.follow import follow
from kdfuse.graph.rebuild import rebuild

layers = keras.layers
RNG = np.random.default_rng(0)


def test_the_solution_is_that_of_numpy():
    x, y = RNG.normal(size=(50, 4)), RNG.normal(size=(50, 3))
    np.testing.assert_allclose(solve(x.T @ x, x.T @ y, np.zeros(4)), np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-10)
    ridge = np.array([0.5, 0.5, 0.5, 0])
    np.testing.assert_allclose(solve(x.T @ x, x.T @ y, ridge), np.linalg.inv(x.T @ x + np.diag(ridge)) @ x.T @ y, atol=1e-10)


def shrunk(model, x, gone):
    data = Data(train=(x, np.zeros(len(x), dtype=int)), class_names=["a", "b"])
    channels = follow(model)
    plain, _ = rebuild(model, channels, gone)
    fitted, twins = rebuild(model, channels, gone)
    return plain, fitted, reconstruct(model, fitted, channels, twins, gone, data, rows=len(x))


def test_a_dense_layer_is_fitted_as_by_numpy():
    keras.utils.set_random_seed(0)
    i = keras.Input((6,))
    model = keras.Model(i, layers.Dense(3, "tanh", name="next")(layers.Dense(8, "relu", name="first")(i)))
    model.get_layer("next").bias.assign(RNG.normal(size=3))
    x = RNG.normal(size=(200, 6)).astype("float32")
    plain, fitted, names = shrunk(model, x, [1 + 6, 3 + 6, 4 + 6])  # ids 0 to 5 are the inputs
    assert names == ["next"]
    wanted = np.asarray(model.get_layer("first")(x)) @ model.get_layer("next").kernel.numpy() + model.get_layer("next").bias.numpy()
    seen = np.concatenate([np.asarray(fitted.get_layer("first")(x)), np.ones((200, 1))], axis=1)
    expected = np.linalg.lstsq(seen.astype("float64"), wanted.astype("float64"), rcond=None)[0]
    np.testing.assert_allclose(fitted.get_layer("next").kernel, expected[:-1], atol=1e-3)
    np.testing.assert_allclose(fitted.get_layer("next").bias, expected[-1], atol=1e-3)
    errors = [float(np.square(np.asarray(one(x)) - np.asarray(model(x))).mean()) for one in (plain, fitted)]
    assert errors[1] < 0.7 * errors[0]


CASES = {
    "same": lambda x: layers.Conv2D(4, 3, padding="same", name="next")(x),
    "strides": lambda x: layers.Conv2D(4, 3, strides=2, name="next")(x),
    "dilated": lambda x: layers.Conv2D(4, 2, dilation_rate=2, use_bias=False, name="next")(x),
    "shared": lambda x: (lambda layer: layer(layer(x)))(layers.Conv2D(8, 3, padding="same", name="next")),
    "causal": lambda x: layers.Conv1D(4, 3, padding="causal", name="next")(layers.Reshape((36, 8))(x)),
    "flat": lambda x: layers.Dense(4, name="next")(layers.Flatten()(x)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_outputs_come_closer(case):
    i = keras.Input((6, 6, 2))
    x = CASES[case](layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(i))
    model = keras.Model(i, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x))
    rows = RNG.normal(size=(60, 6, 6, 2)).astype("float32")
    channels = follow(model)
    gone = np.unique(channels.roots(next(iter(channels.members.values())).slots["out"]))[:4].tolist()
    before = [weight.numpy().copy() for weight in model.weights]
    plain, fitted, names = shrunk(model, rows, gone)
    assert names[0] == "next" and all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))
    errors = [float(np.square(np.asarray(one(rows)) - np.asarray(model(rows))).mean()) for one in (plain, fitted)]
    assert errors[1] < 0.9 * errors[0]
