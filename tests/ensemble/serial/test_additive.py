"""A weighted sum over a start."""

import keras
import numpy as np
import pytest

from kdfuse.ensemble.serial.additive import Additive

M = np.random.default_rng(0).normal(size=(3, 6, 2)).astype("float32")


def test_the_sum(tmp_path):
    layer = Additive((1.0, -1.0), (0.5, 2.0, 0.1))
    want = np.array([1.0, -1.0]) + 0.5 * M[0] + 2 * M[1] + 0.1 * M[2]
    np.testing.assert_allclose(layer(list(M)), want, rtol=1e-5)
    inputs = [keras.Input((2,)) for _ in range(3)]
    keras.Model(inputs, layer(inputs)).save(tmp_path / "m.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.keras")(list(M)), want, rtol=1e-5)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="`weights`: expected one for each of 3 members. Received: 2"):
        Additive((0.0,), (1.0, 1.0))(list(M))
    with pytest.raises(ValueError, match="expected a finite number"):
        Additive((0.0,), (float("nan"),))
