import math

import keras
import numpy as np
import pytest

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.attention import encoder_block, normalize_layer, plain_kernel
from kdfuse.models.blocks.pieces import Pieces

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5, 6)).astype("float32")
THERE = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)


def block(masked: bool = False, heads: int = 2, seed: int = 0, dropout: float = 0.0, kernel_initializer: str = "auto") -> keras.Model:
    x, mask = keras.Input((5, 6)), keras.Input((5,), dtype="bool")
    pieces = Pieces(Activation("relu"), kernel_initializer, seed)
    return keras.Model([x, mask], encoder_block(x, heads, 7, 1, pieces=pieces, dropout=dropout, mask=mask if masked else None))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_it_equals_numpy(masked: bool, heads: int) -> None:
    model = block(masked, heads)
    model.set_weights([RNG.normal(size=weight.shape) * 0.5 for weight in model.get_weights()])
    weights = {weight.path: np.asarray(weight, "float64") for weight in model.weights}

    def norm(values: np.ndarray, name: str) -> np.ndarray:
        mean, variance = values.mean(axis=-1, keepdims=True), values.var(axis=-1, keepdims=True)
        return (values - mean) / np.sqrt(variance + 1e-6) * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    size, expected = 6 // heads, np.empty((3, 5, 6))
    for row, there in enumerate(THERE if masked else np.ones_like(THERE)):
        x = X[row].astype("float64")
        y, total = norm(x, "attention_norm_1"), weights["attention_1/attention_output/bias"].copy()
        for head in range(heads):
            q, k, v = (y @ weights[f"attention_1/{part}/kernel"][:, head] + weights[f"attention_1/{part}/bias"][head]
                       for part in ("query", "key", "value"))  # fmt: skip
            scores = q @ k.T / math.sqrt(size)
            scores[:, ~there] = -np.inf
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            total = total + shares / shares.sum(axis=1, keepdims=True) @ v @ weights["attention_1/attention_output/kernel"][head]
        x = x + total
        y = np.maximum(norm(x, "dense_norm_1") @ weights["dense_1/kernel"] + weights["dense_1/bias"], 0)
        expected[row] = x + y @ weights["dense_out_1/kernel"] + weights["dense_out_1/bias"]
    np.testing.assert_allclose(model([X, THERE]), expected, rtol=1e-3, atol=1e-4)


def test_query_key_and_value_start_apart_and_the_seed_gives_them() -> None:
    def kernels(**settings: object) -> dict[str, np.ndarray]:
        weights = block(**settings).weights  # type: ignore[arg-type]
        return {weight.path.split("/")[-2]: np.asarray(weight) for weight in weights if weight.path.endswith("kernel")}

    one, again, other = kernels(), kernels(), kernels(seed=1)
    assert all(np.array_equal(one[name], again[name]) and not np.allclose(one[name], other[name]) for name in one)
    assert not np.allclose(one["query"], one["key"]) and not np.allclose(one["key"], one["value"])
    # Glorot over the whole matrix of 6 x 6, in range and wide enough.
    limit = math.sqrt(6 / 12)
    assert all(0.6 * limit < np.abs(one[name]).max() <= limit for name in ("query", "key", "value", "attention_output"))
    assert not np.allclose(kernels(kernel_initializer="orthogonal")["query"], one["query"])
    assert plain_kernel(Pieces(Activation("gelu"))) == "glorot_uniform" and plain_kernel(Pieces(Activation(), "orthogonal")) is None


def test_dropout_in_training_alone() -> None:
    plain, dropped = block(), block(dropout=0.5)
    dropped.set_weights(
        plain.get_weights()[: len(dropped.trainable_weights)] + [w for w in dropped.get_weights()[len(plain.get_weights()) :]]
    )
    np.testing.assert_allclose(plain([X, THERE]), dropped([X, THERE]), rtol=1e-6)
    assert not np.allclose(plain([X, THERE]), dropped([X, THERE], training=True))


def test_layer_normalization() -> None:
    inputs = keras.Input((6,))
    given = np.asarray(keras.Model(inputs, normalize_layer(inputs, "norm"))(X[:, 0]))
    np.testing.assert_allclose(given.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(given.std(axis=1), 1, atol=1e-4)
