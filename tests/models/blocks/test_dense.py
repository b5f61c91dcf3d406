import keras
import numpy as np
import pytest

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.dense import dense_block
from kdfuse.models.blocks.pieces import Pieces


@pytest.mark.parametrize("units", [4, 6])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_it_equals_numpy(units: int, batch_norm: bool, skip: bool) -> None:
    rng = np.random.default_rng(0)
    inputs = keras.Input((4,))
    model = keras.Model(
        inputs, dense_block(inputs, units, 1, pieces=Pieces(Activation("tanh")), dropout=0.5, batch_norm=batch_norm, skip=skip)
    )
    model.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in model.get_weights()])
    weights = {weight.path: np.asarray(weight) for weight in model.weights}
    x = rng.normal(size=(5, 4)).astype("float32")
    expected = x @ weights["dense_1/kernel"]
    if batch_norm:
        gamma, beta, mean, variance = (weights[f"batch_norm_1/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance"))
        expected = gamma * (expected - mean) / np.sqrt(variance + 1e-3) + beta
    else:
        expected = expected + weights["dense_1/bias"]
    expected = np.tanh(expected)
    if skip:
        expected = expected + (x if units == 4 else x @ weights["skip_1/kernel"])
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)
