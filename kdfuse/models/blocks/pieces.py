"""The layers that all builders share, named and seeded."""

import hashlib
from dataclasses import dataclass
from typing import Any

import keras

from kdfuse.models.activations import Activation
from kdfuse.models.checks import integer, option

INITIALIZERS = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "glorot_normal": keras.initializers.GlorotNormal,
    "he_uniform": keras.initializers.HeUniform,
    "he_normal": keras.initializers.HeNormal,
    "lecun_uniform": keras.initializers.LecunUniform,
    "lecun_normal": keras.initializers.LecunNormal,
    "random_normal": keras.initializers.RandomNormal,
    "random_uniform": keras.initializers.RandomUniform,
    "truncated_normal": keras.initializers.TruncatedNormal,
    "orthogonal": keras.initializers.Orthogonal,
}


@dataclass(frozen=True)
class Pieces:
    """Makes the layers of one model.

    Every layer is named by its builder, and everything random in it comes from `seed` and that name alone: not from the global
    state of Keras, and not from the layers made before it.

    Args:
        activation: of hidden layers.
        kernel_initializer: of hidden layers, one of `INITIALIZERS`, or "auto" for the one that fits the activation: he_normal for
            the relu family, lecun_normal for selu, glorot_uniform for saturating ones.
        seed: at least 0.
    """

    activation: Activation
    kernel_initializer: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        option("kernel_initializer", self.kernel_initializer, ("auto", *INITIALIZERS))
        integer("seed", self.seed, low=0)

    def seed_of(self, name: str) -> int:
        """The seed of the layer called `name`: 31 bits."""
        return int.from_bytes(hashlib.sha256(f"{int(self.seed)}/{name}".encode()).digest()[:4], "big") >> 1

    def initializer(self, name: str, kind: str | None = None) -> keras.initializers.Initializer:
        """The kernel initializer of the layer called `name`, of `kind` or as the settings say."""
        if kind is None:
            kind = self.activation.kernel_initializer if self.kernel_initializer == "auto" else self.kernel_initializer
        return INITIALIZERS[kind](seed=self.seed_of(name))

    def activate(self, x: Any, name: str) -> Any:
        """The activation of `x`."""
        layer = self.activation.layer(name, rank=len(x.shape))
        return x if layer is None else layer(x)

    def dropout(self, x: Any, rate: float, name: str) -> Any:
        """`x` with the share `rate` of it dropped while training; `x` itself for 0."""
        return keras.layers.Dropout(rate, seed=self.seed_of(name), name=name)(x) if rate else x

    def normalize(self, x: Any, name: str) -> Any:
        """Batch normalization over the last axis."""
        return keras.layers.BatchNormalization(axis=-1, name=name)(x)
