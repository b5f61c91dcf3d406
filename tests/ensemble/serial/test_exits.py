"""A network cut at its exits computes what it computed."""

import keras
import numpy as np
import pytest

from kdfuse.ensemble.serial.exits import cut, with_exits

L = keras.layers
X = np.random.default_rng(0).normal(size=(5, 8, 8, 2)).astype("float32")


def net():
    keras.utils.set_random_seed(0)
    given = keras.Input((8, 8, 2))
    x = L.MaxPooling2D(name="pool")(L.Conv2D(4, 3, padding="same", name="conv")(given))
    x = L.Add(name="block")([x, L.Conv2D(4, 3, padding="same", name="inside")(x)])
    return keras.Model(given, L.Dense(3, name="head")(L.Flatten(name="flat")(x)))


def test_the_segments_are_the_network():
    model, want = net(), np.asarray(net()(X))
    parts = cut(model, ("pool", "block", "flat"), "logits")
    x = X
    for segment in parts.trunk:
        x = segment(x)
    np.testing.assert_allclose(x, want, atol=1e-6)
    np.testing.assert_allclose(parts.whole(X), want, atol=1e-6)


def test_exits_answer_for_their_features():
    grown = with_exits(net(), ("pool", "flat"), "logits")
    first, second, last = (np.asarray(one) for one in grown(X))
    np.testing.assert_allclose(last, net()(X), atol=1e-6)
    parts = cut(grown, ("pool", "flat"), "logits", exits=True)
    made = parts.logits()(X)
    for one, other in zip((first, second, last), made, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    features = np.asarray(parts.trunk[0](X))
    kernel, bias = parts.heads[0][0].get_weights()
    np.testing.assert_allclose(first, features.mean((1, 2)) @ kernel + bias, atol=1e-5)
    assert [one.input_shape for one in parts.stages()] == [(None, 8, 8, 2), (None, 4, 4, 4), (None, 64)]


def test_where_it_cannot_be_cut():
    with pytest.raises(ValueError, match="`at`: expected layers that everything .*behind 'inside' also reads something else"):
        cut(net(), ("inside",), "logits")
    with pytest.raises(ValueError, match="`at`: expected layers that everything behind them goes through"):
        cut(net(), ("block", "pool"), "logits")
    with pytest.raises(ValueError, match="`at`: expected names of layers of .* Received: 'nowhere'. It has: .*pool"):
        cut(net(), ("nowhere",), "logits")
    for name in ("head", "input_0"):
        with pytest.raises(ValueError, match="`at`"):
            cut(net(), (name,), "logits")
    given, twice = keras.Input((4,)), L.Dense(4, name="twice")
    with pytest.raises(ValueError, match="`at`: expected layers that are called once. Received: 'twice'"):
        cut(keras.Model(given, L.Dense(2)(twice(twice(given)))), ("twice",), "logits")
    words = keras.Input((5,), dtype="int32")
    steps = L.LSTM(3, return_sequences=True, name="steps")(L.Embedding(9, 4, mask_zero=True)(words))
    with pytest.raises(ValueError, match="behind 'steps' also reads something else, such as .* a mask"):
        cut(keras.Model(words, L.Dense(2)(L.LSTM(3)(steps))), ("steps",), "logits")


def test_exits_are_what_the_output_is():
    given = keras.Input((4,))
    hidden = L.Dense(6, "relu", name="hidden")(given)
    model = keras.Model(given, L.Softmax()(L.Dense(3)(hidden)))  # its last layer has no activation
    first, last = with_exits(model, ("hidden",), "softmax")(X[:, 0, :2].reshape(5, 4))
    np.testing.assert_allclose(np.asarray(first).sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(last).sum(-1), 1, rtol=1e-5)
