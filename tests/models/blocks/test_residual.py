from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.convolution import Convolutions
from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.blocks.residual import residual_block


@pytest.mark.parametrize(("filters", "strides"), [(3, 1), (5, 1), (3, 2)])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_it_equals_numpy(filters: int, strides: int, batch_norm: bool, bottleneck: bool) -> None:
    """With kernels of size 1 a convolution is a matrix product at each place."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((4, 4, 3))
    convolutions = Convolutions(2, Pieces(Activation("relu")))
    options: dict[str, Any] = {"strides": strides, "convolutions": convolutions, "batch_norm": batch_norm, "bottleneck": bottleneck}
    model = keras.Model(inputs, residual_block(inputs, filters, 1, "block", **options))
    model.set_weights([rng.uniform(0.2, 1.0, weight.shape) for weight in model.get_weights()])
    weights = {weight.path: np.asarray(weight) for weight in model.weights}
    x = rng.normal(size=(2, 4, 4, 3)).astype("float32")

    def convolve(values: np.ndarray, name: str, norm: str, step: int) -> np.ndarray:
        values = values[:, ::step, ::step] @ weights[f"{name}/kernel"][0, 0]
        if not batch_norm:
            return values + weights[f"{name}/bias"]
        gamma, beta, mean, variance = (weights[f"{norm}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance"))
        return gamma * (values - mean) / np.sqrt(variance + 1e-3) + beta

    steps = [1, strides, 1] if bottleneck else [strides, 1]
    expected = x
    for index, step in enumerate(steps, start=1):
        expected = convolve(expected, f"block_conv_{index}", f"block_batch_norm_{index}", step)
        expected = np.maximum(expected, 0) if index < len(steps) else expected
    identity = expected.shape == x.shape
    assert identity == (filters == 3 and strides == 1 and not bottleneck)
    expected = np.maximum(expected + (x if identity else convolve(x, "block_skip", "block_skip_batch_norm", strides)), 0)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4)
