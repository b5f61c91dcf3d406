from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import erf

from kdfuse.models.activations import ACTIVATIONS, Activation

points = np.linspace(-4, 4, 81).astype("float32")[:, None]


def apply(**settings: Any) -> np.ndarray:
    layer = Activation(**settings).layer("activation_1", rank=2)
    assert layer is not None and layer.name == "activation_1"
    return np.asarray(layer(points))


@pytest.mark.parametrize("slope", [None, 0.1])
@pytest.mark.parametrize("threshold", [0.0, 1.05])
@pytest.mark.parametrize("limit", [None, 2.05])
def test_relu_and_its_parameters(slope: float | None, threshold: float, limit: float | None) -> None:
    below = (slope or 0.0) * (points - threshold)
    expected = np.where(points < threshold, below, points)
    expected = expected if limit is None else np.where(points < limit, expected, limit)
    np.testing.assert_allclose(apply(name="relu", negative_slope=slope, threshold=threshold, max_value=limit), expected, atol=1e-6)


FORMULAS = {
    "leaky_relu": np.where(points > 0, points, 0.2 * points),
    "prelu": np.where(points > 0, points, 0.25 * points),
    "elu": np.where(points > 0, points, np.expm1(points)),
    "selu": 1.0507009873554805 * np.where(points > 0, points, 1.6732632423543772 * np.expm1(points)),
    "gelu": points * (1 + erf(points / np.sqrt(2))) / 2,
    "silu": points / (1 + np.exp(-points)),
    "swish": points / (1 + np.exp(-points)),
    "mish": points * np.tanh(np.log1p(np.exp(points))),
    "softplus": np.log1p(np.exp(points)),
    "softsign": points / (1 + np.abs(points)),
    "sigmoid": 1 / (1 + np.exp(-points)),
    "tanh": np.tanh(points),
}


def test_every_activation_has_its_formula() -> None:
    assert {"relu", "linear", *FORMULAS} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name: str) -> None:
    # keras's gelu is the tanh approximation only where asked for
    np.testing.assert_allclose(apply(name=name), FORMULAS[name], rtol=1e-5, atol=2e-6)


def test_linear_is_no_layer() -> None:
    assert Activation("linear").layer("activation_1", rank=2) is None


@pytest.mark.parametrize("name", ["leaky_relu", "prelu"])
def test_slopes(name: str) -> None:
    np.testing.assert_allclose(apply(name=name, negative_slope=0.4), np.where(points > 0, points, 0.4 * points), atol=1e-6)


def test_prelu_learns_one_slope_for_each_channel() -> None:
    layer: Any = Activation("prelu").layer("activation_1", rank=4)
    layer.build((None, 8, 8, 3))
    assert layer.alpha.shape == (1, 1, 3)


def test_only_layers_of_keras() -> None:
    for name in set(ACTIVATIONS) - {"linear"}:
        layer = Activation(name).layer("activation_1", rank=2)
        assert getattr(keras.layers, type(layer).__name__) is type(layer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "geluu"}, "Did you mean 'gelu'"),
        ({"name": None}, "`activation`: expected one of"),
        ({"name": "tanh", "negative_slope": 0.1}, "`negative_slope`: a parameter of relu and leaky_relu and prelu.*Leave it out"),
        ({"name": "leaky_relu", "threshold": 1.0}, "`threshold`: a parameter of relu"),
        ({"name": "elu", "max_value": 1.0}, "`max_value`: a parameter of relu"),
        ({"negative_slope": -0.1}, "`negative_slope`: expected a number of at least 0"),
        ({"threshold": float("inf")}, "`threshold`: expected a number of at least 0"),
        ({"threshold": 2.0, "max_value": 2.0}, "`max_value`: expected a number above 2"),
    ],
)
def test_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Activation(**settings)


@pytest.mark.parametrize(("name", "expected"), [("gelu", "he_normal"), ("selu", "lecun_normal"), ("tanh", "glorot_uniform")])
def test_the_fitting_initializer(name: str, expected: str) -> None:
    assert Activation(name).kernel_initializer == expected
