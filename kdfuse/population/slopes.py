"""Activations in NumPy: their value, and their derivative from input and value. The formulas are Keras's."""

import dataclasses
from typing import ClassVar

import numpy as np
from scipy.special import erf, expit

SELU = (1.0507009873554805, 1.6732632423543772)
ROOT, DENSITY = np.float32(np.sqrt(0.5)), np.float32(1 / np.sqrt(2 * np.pi))


@dataclasses.dataclass(frozen=True)
class Slope:
    """An activation; all arrays are float32 of one shape."""

    name: ClassVar[str] = "linear"

    def value(self, z: np.ndarray) -> np.ndarray:
        """The activation of `z`."""
        return z

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        """A gradient with respect to the value as one with respect to `z`."""
        return gradient


class Softmax(Slope):
    """Of heads; what becomes of its gradient is the loss's business."""

    name = "softmax"

    def value(self, z: np.ndarray) -> np.ndarray:
        parts = np.exp(z - z.max(axis=-1, keepdims=True))
        return parts / parts.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True)
class Relu(Slope):
    """`max_value` from there up, `z` from `threshold` up, `negative_slope * (z - threshold)` below."""

    negative_slope: float = 0.0
    threshold: float = 0.0
    max_value: float = np.inf

    name = "relu"

    def value(self, z: np.ndarray) -> np.ndarray:
        if not self.negative_slope and not self.threshold:
            return np.clip(z, 0, np.float32(self.max_value)) if np.isfinite(self.max_value) else np.maximum(z, 0)  # type: ignore[no-any-return]
        below = np.float32(self.negative_slope) * (z - np.float32(self.threshold))
        return np.minimum(np.where(z > np.float32(self.threshold), z, below), np.float32(self.max_value))  # type: ignore[no-any-return]

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        if not self.negative_slope and not np.isfinite(self.max_value):
            return gradient * (z > np.float32(self.threshold))  # type: ignore[no-any-return]
        slope = np.where(z > np.float32(self.threshold), np.float32(1), np.float32(self.negative_slope))
        return gradient * slope * (z < np.float32(self.max_value))  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True)
class LeakyRelu(Slope):
    """`z` above 0, a share of it below."""

    negative_slope: float = 0.2

    name = "leaky_relu"

    def value(self, z: np.ndarray) -> np.ndarray:
        below = np.float32(self.negative_slope) * z
        return np.maximum(z, below) if 0 <= self.negative_slope <= 1 else np.where(z > 0, z, below)  # type: ignore[no-any-return]

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        share = np.float32(self.negative_slope)
        return gradient * ((z > 0) * (1 - share) + share)  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True)
class Elu(Slope):
    """`scale * z` above 0, `scale * alpha * (exp(z) - 1)` below."""

    alpha: float = 1.0
    scale: float = 1.0

    name = "elu"

    def value(self, z: np.ndarray) -> np.ndarray:
        below = np.float32(self.alpha) * np.expm1(np.minimum(z, 0))
        return np.float32(self.scale) * np.where(z > 0, z, below)  # type: ignore[no-any-return]

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        scale = np.float32(self.scale)
        return gradient * np.where(z > 0, scale, value + scale * np.float32(self.alpha))  # type: ignore[no-any-return]


class Tanh(Slope):
    """Hyperbolic tangent."""

    name = "tanh"

    def value(self, z: np.ndarray) -> np.ndarray:
        return np.tanh(z)  # type: ignore[no-any-return]

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        return gradient * (1 - value * value)


class Sigmoid(Slope):
    """The logistic function."""

    name = "sigmoid"

    def value(self, z: np.ndarray) -> np.ndarray:
        return expit(z)  # type: ignore[no-any-return]

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        return gradient * value * (1 - value)


class Silu(Slope):
    """`z` times its logistic function (swish)."""

    name = "silu"

    def value(self, z: np.ndarray) -> np.ndarray:
        return z * expit(z)  # type: ignore[no-any-return]

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        share = expit(z)
        return gradient * (share + value * (1 - share))  # type: ignore[no-any-return]


class Gelu(Slope):
    """`z` times the normal distribution's share below it (Hendrycks and Gimpel 2016, arXiv 1606.08415), exact."""

    name = "gelu"

    def value(self, z: np.ndarray) -> np.ndarray:
        return z * (np.float32(0.5) * (1 + erf(z * ROOT)))  # type: ignore[no-any-return]

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        share = np.float32(0.5) * (1 + erf(z * ROOT))
        return gradient * (share + z * DENSITY * np.exp(np.float32(-0.5) * z * z))  # type: ignore[no-any-return]


class Softplus(Slope):
    """`log(1 + exp(z))`."""

    name = "softplus"

    def value(self, z: np.ndarray) -> np.ndarray:
        return np.logaddexp(z, np.float32(0))  # type: ignore[no-any-return]

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        return gradient * expit(z)  # type: ignore[no-any-return]


class Softsign(Slope):
    """`z / (1 + |z|)`."""

    name = "softsign"

    def value(self, z: np.ndarray) -> np.ndarray:
        return z / (1 + np.abs(z))  # type: ignore[no-any-return]

    def times(self, gradient: np.ndarray, z: np.ndarray, value: np.ndarray) -> np.ndarray:
        return gradient / np.square(1 + np.abs(z))  # type: ignore[no-any-return]


def selu() -> Elu:
    """ELU with the scales of Klambauer 2017 (arXiv 1706.02515)."""
    return Elu(alpha=SELU[1], scale=SELU[0])


SLOPES = {
    "linear": Slope, "softmax": Softmax, "relu": Relu, "leaky_relu": LeakyRelu, "elu": Elu, "selu": selu, "tanh": Tanh, "sigmoid": Sigmoid,
    "silu": Silu, "gelu": Gelu, "softplus": Softplus, "softsign": Softsign,
}  # fmt: skip
"""By the names that Keras gives its activation functions."""
