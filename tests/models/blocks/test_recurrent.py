from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.blocks.recurrent import CELL_ACTIVATIONS, recurrent_layer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5, 2)).astype("float32")
THERE = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def run(x: np.ndarray, weights: list[np.ndarray], cell: str) -> np.ndarray:
    """The states of one row, from the papers; gates in Keras's order. GRU with the reset after the product (arXiv 1406.1078v1)."""
    kernel, recurrent, bias = (weight.astype("float64") for weight in weights)
    units = recurrent.shape[0]
    h, c, states = np.zeros(units), np.zeros(units), []
    for step in x.astype("float64"):
        if cell == "rnn":
            h = np.tanh(step @ kernel + h @ recurrent + bias)
        elif cell == "lstm":
            i, f, new, o = np.split(step @ kernel + h @ recurrent + bias, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
            h = sigmoid(o) * np.tanh(c)
        else:
            (xz, xr, xh), (hz, hr, hh) = np.split(step @ kernel + bias[0], 3), np.split(h @ recurrent + bias[1], 3)
            z, r = sigmoid(xz + hz), sigmoid(xr + hr)
            h = z * h + (1 - z) * np.tanh(xh + r * hh)
        states.append(h)
    return np.array(states)


def layer_model(masked: bool, **settings: Any) -> keras.Model:
    x, mask = keras.Input((5, 2)), keras.Input((5,), dtype="bool")
    pieces = Pieces(Activation(settings.pop("activation", "tanh")), seed=settings.pop("seed", 0))
    settings = {"cell": "gru", "bidirectional": True, "sequences": False, **settings}
    return keras.Model([x, mask], recurrent_layer(x, 4, 1, pieces=pieces, mask=mask if masked else None, **settings))


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_numpy_in_both_directions(cell: str, masked: bool) -> None:
    model = layer_model(masked, cell=cell)
    model.set_weights([RNG.normal(size=weight.shape) * 0.5 for weight in model.get_weights()])
    weights = model.get_weights()
    rows = [row[there] if masked else row for row, there in zip(X, THERE, strict=True)]
    expected = [np.concatenate([run(row, weights[:3], cell)[-1], run(row[::-1], weights[3:], cell)[-1]]) for row in rows]
    np.testing.assert_allclose(model([X, THERE]), expected, rtol=1e-4, atol=1e-5)


def test_sequences_give_the_state_after_each_step() -> None:
    model = layer_model(False, sequences=True)
    weights = model.get_weights()
    forwards, backwards = run(X[0], weights[:3], "gru"), run(X[0][::-1], weights[3:], "gru")[::-1]
    np.testing.assert_allclose(model([X, THERE])[0], np.concatenate([forwards, backwards], axis=1), rtol=1e-4, atol=1e-5)
    assert layer_model(False, sequences=True, bidirectional=False).output.shape == (None, 5, 4)


def test_the_directions_have_weights_of_their_own_that_the_seed_gives() -> None:
    weights, again = layer_model(False).get_weights(), layer_model(False).get_weights()
    assert all(np.array_equal(one, other) for one, other in zip(weights, again, strict=True))
    assert not np.allclose(weights[0], weights[3]) and not np.allclose(weights[1], weights[4])
    assert not np.allclose(weights[0], layer_model(False, seed=1).get_weights()[0])


@pytest.mark.parametrize("activation", CELL_ACTIVATIONS)
def test_every_activation_serves(activation: str) -> None:
    assert np.isfinite(layer_model(True, activation=activation, cell="rnn")([X, THERE])).all()
