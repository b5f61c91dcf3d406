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
    parts = cut(model, ("pool", "block", "flat"))
    x = X
    for segment in parts.trunk:
        x = segment(x)
    np.testing.assert_allclose(x, want, atol=1e-6)
    np.testing.assert_allclose(parts.whole(X), want, atol=1e-6)


def test_exits_answer_for_their_features():
    grown = with_exits(net(), ("pool", "flat"))
    first, second, last = (np.asarray(one) for one in grown(X))
    np.testing.assert_allclose(last, net()(X), atol=1e-6)
    parts = cut(grown, ("pool", "flat"), exits=True)
    made = parts.logits("logits")(X)
    for one, other in zip((first, second, last), made, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    features = np.asarray(parts.trunk[0](X))
    kernel, bias = parts.heads[0][0].get_weights()
    np.testing.assert_allclose(first, features.mean((1, 2)) @ kernel + bias, atol=1e-5)
    assert [one.input_shape for one in parts.stages()] == [(None, 8, 8, 2), (None, 4, 4, 4), (None, 64)]


def test_where_it_cannot_be_cut():
    with pytest.raises(ValueError, match="`at`: expected layers that everything .*behind 'inside' also reads something else"):
        cut(net(), ("inside",))
    with pytest.raises(ValueError, match="`at`: expected layers that everything behind them goes through"):
        cut(net(), ("block", "pool"))
    with pytest.raises(ValueError, match="`at`: expected names of layers of .* Received: 'nowhere'. It has: .*pool"):
        cut(net(), ("nowhere",))
