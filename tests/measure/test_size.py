import gzip

import keras
import numpy as np
import pytest

from kdfuse.measure.coding import coded
from kdfuse.measure.size import size


def model():
    return keras.Sequential([keras.Input((20,)), keras.layers.Dense(50), keras.layers.BatchNormalization(), keras.layers.Dense(3)])


def test_counts_and_bytes(tmp_path):
    net = model()
    kernel = net.layers[0].kernel
    kernel.assign(np.where(np.arange(1000).reshape(20, 50) < 400, 0, 1))
    found = size(net)
    assert found["size/parameters"] == 20 * 50 + 50 + 4 * 50 + 50 * 3 + 3
    assert found["size/nonzero"] == 600 + 0 + (50 + 50) + 150 + 0  # biases, beta and means are 0
    shared = coded(net)
    assert (found["size/unique"], found["size/huffman_bytes"]) == (shared.unique, shared.bytes)
    assert found["size/unique"] == 2 + 150 and found["size/huffman_bytes"] < 4 * found["size/parameters"] - 3000
    net.save(tmp_path / "m.keras")
    assert found["size/keras_bytes"] == (tmp_path / "m.keras").stat().st_size
    assert found["size/gzip_bytes"] == pytest.approx(len(gzip.compress((tmp_path / "m.keras").read_bytes(), 6)), abs=60)
    assert found["size/gzip_bytes"] < found["size/keras_bytes"]


def test_the_optimizer_does_not_count_and_nothing_changes():
    plain, trained = model(), model()
    trained.compile("adam", "mse")
    trained.fit(np.zeros((4, 20)), np.zeros((4, 3)), verbose=0)
    optimizer, weights = trained.optimizer, [w.numpy() for w in trained.weights]
    assert size(trained)["size/keras_bytes"] == pytest.approx(size(plain)["size/keras_bytes"], rel=0.02)
    assert trained.compiled and trained.optimizer is optimizer
    for before, weight in zip(weights, trained.weights, strict=True):
        np.testing.assert_array_equal(before, weight.numpy())


def test_what_cannot_be_saved_has_no_bytes():
    class Opaque(keras.Model):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def call(self, inputs):
            return self.layer(inputs)

        def get_config(self):
            raise NotImplementedError

    net = Opaque(keras.layers.Dense(3))
    net(np.zeros((1, 2)))
    assert size(net) == {"size/parameters": 9.0, "size/nonzero": 6.0, "size/unique": 6.0, "size/huffman_bytes": 36.0}
