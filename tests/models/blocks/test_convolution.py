from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.convolution import Convolutions, add_channels, check_kernel
from kdfuse.models.blocks.pieces import Pieces

PIECES = Pieces(Activation("relu"))


@pytest.mark.parametrize(
    ("shape", "given", "dimensions", "expected"),
    [
        ((8, 6, 3), None, 2, (8, 6, 3)),
        ((8, 8), None, 2, (8, 8, 1)),
        ((8, 6), None, 1, (8, 6)),
        ((8,), None, 1, (8, 1)),
        ((None, 6), None, 1, (None, 6)),
        ((8, 6), 2, 2, (8, 6, 1)),
        ((None, 8), 2, 2, (None, 8, 1)),
        ((None, None, 3), None, 2, (None, None, 3)),
        ((8, 8), 1, 1, (8, 8)),
    ],
)
def test_channels(shape: Any, given: int | None, dimensions: int, expected: Any) -> None:
    x, found = add_channels(keras.Input(shape), given)
    assert (tuple(x.shape[1:]), found) == (expected, dimensions)


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        ((), None, "expected images .* or sequences"),
        ((2, 3, 4, 5), None, "expected images .* or sequences"),
        ((8, 8, 3), 1, "with dimensions=1"),
        ((8,), 2, "with dimensions=2"),
        ((8, 8, None), None, "known number of channels"),
        ((None, None), None, "expected an axis of channels"),
        ((8, 8), 3, "`dimensions`: expected 1"),
    ],
)
def test_errors(shape: Any, given: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add_channels(keras.Input(shape), given)


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_equals_numpy(kind: str) -> None:
    inputs = keras.Input((5, 4, 3))
    convolutions = Convolutions(2, PIECES)
    model = keras.Model(inputs, [convolutions.pool(inputs, kind, 2, "pool_1"), convolutions.pool_all(inputs, kind)])
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype("float32")
    reduce = np.max if kind == "max" else np.mean
    windows = x[:, :4].reshape(2, 2, 2, 2, 2, 3)
    pooled, whole = model(x)
    np.testing.assert_allclose(pooled, reduce(windows, axis=(2, 4)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole, reduce(x, axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_a_convolution_over_a_sequence_equals_numpy() -> None:
    inputs = keras.Input((7, 2))
    model = keras.Model(inputs, Convolutions(1, PIECES).convolve(inputs, 4, 3, "conv_1"))
    x = np.random.default_rng(0).normal(size=(1, 7, 2)).astype("float32")
    kernel, _ = model.get_weights()
    padded = np.pad(x[0], ((1, 1), (0, 0)))
    expected = [np.tensordot(padded[step : step + 3], kernel, axes=2) for step in range(7)]
    np.testing.assert_allclose(model(x)[0], expected, rtol=1e-4, atol=1e-5)


def test_the_kernel_fits_the_data() -> None:
    check_kernel(8, keras.Input((8, 9, 1)))
    check_kernel(8, keras.Input((None, None, 1)))
    with pytest.raises(ValueError, match="`kernel_size`: expected at most 8"):
        check_kernel(9, keras.Input((8, 9, 1)))
