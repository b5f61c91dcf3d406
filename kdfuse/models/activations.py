"""The activation of hidden layers, as layers that Keras itself knows."""

from dataclasses import dataclass
from typing import Any

import keras

from kdfuse.models.checks import number, option

ACTIVATIONS = (
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "swish",
    "mish",
    "softplus",
    "softsign",
    "sigmoid",
    "tanh",
    "linear",
)
SLOPED = ("relu", "leaky_relu", "prelu")
SATURATING = ("sigmoid", "tanh", "softsign", "linear")


@dataclass(frozen=True)
class Activation:
    """An activation with its parameters, checked when made.

    `relu` is `max_value` from `max_value` up, `x` from `threshold` up, and `negative_slope * (x - threshold)` below.

    Args:
        name: one of `ACTIVATIONS`; `swish` is another name of `silu`, `linear` is no activation.
        negative_slope: at least 0. Of `relu` (0 if not given), `leaky_relu` (0.2), or the first value of the slopes that `prelu`
            learns (0.25), one for each unit or channel.
        threshold: at least 0; of `relu` only.
        max_value: above `threshold`; of `relu` only. `None` for no limit.

    Raises:
        ValueError: an unknown name (the near ones are named), a parameter out of range, or one of another activation.
    """

    name: str = "relu"
    negative_slope: float | None = None
    threshold: float = 0.0
    max_value: float | None = None

    def __post_init__(self) -> None:
        option("activation", self.name, ACTIVATIONS)
        if self.negative_slope is not None:
            self._belongs("negative_slope", SLOPED)
            self._keep("negative_slope", number("negative_slope", self.negative_slope))
        self._keep("threshold", number("threshold", self.threshold))
        if self.threshold:
            self._belongs("threshold", ("relu",))
        if self.max_value is not None:
            self._belongs("max_value", ("relu",))
            self._keep("max_value", number("max_value", self.max_value, low=self.threshold, above=True))

    def layer(self, name: str, rank: int) -> keras.layers.Layer | None:
        """A new layer called `name` for tensors of `rank` axes (the batch included); None for `linear`."""
        layers = keras.layers
        match self.name:
            case "linear":
                return None
            case "relu":
                return layers.ReLU(self.max_value, self.negative_slope or 0.0, self.threshold, name=name)
            case "leaky_relu":
                return layers.LeakyReLU(self._slope(0.2), name=name)
            case "prelu":
                first = keras.initializers.Constant(self._slope(0.25))
                return layers.PReLU(first, shared_axes=list(range(1, rank - 1)) or None, name=name)
            case "swish":
                return layers.Activation("silu", name=name)
            case _:
                return layers.Activation(self.name, name=name)

    @property
    def kernel_initializer(self) -> str:
        """The kernel initializer that keeps the variance under this activation."""
        if self.name == "selu":
            return "lecun_normal"
        return "glorot_uniform" if self.name in SATURATING else "he_normal"

    def _slope(self, default: float) -> float:
        return default if self.negative_slope is None else self.negative_slope

    def _keep(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)

    def _belongs(self, parameter: str, names: tuple[str, ...]) -> None:
        if self.name not in names:
            raise ValueError(
                f"`{parameter}`: a parameter of {' and '.join(names)}. Received: {parameter}={getattr(self, parameter)!r} with "
                f"activation={self.name!r}. Leave it out, or set activation={names[0]!r}."
            )
