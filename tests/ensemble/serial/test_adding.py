"""A layer that begins as the identity of its first input."""

import keras
import numpy as np

from kdfuse.ensemble.serial.adding import Adding
from kdfuse.graph.macs import count_macs

A, B = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


def test_answers_plus_a_linear_map():
    layer = Adding(3)
    np.testing.assert_array_equal(layer([A, B[:, :2]]), A)
    kernel, bias = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0, 3.0])
    layer.set_weights([kernel, bias])
    np.testing.assert_allclose(layer([A, B[:, :2]]), A + B[:, :2] @ kernel + bias, rtol=1e-5)


def test_it_is_saved(tmp_path):
    inputs = [keras.Input((3,)), keras.Input((3,))]
    model = keras.Model(inputs, Adding(3)(inputs))
    model.set_weights([np.eye(3), np.ones(3)])
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.keras")([A, B]), A + B + 1, rtol=1e-5)


def test_its_cost_is_known():
    inputs = [keras.Input((3,)), keras.Input((2,))]
    assert count_macs(keras.Model(inputs, Adding(3)(inputs))) == 2 * 3
