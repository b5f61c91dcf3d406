"""The layers of a BatchEnsemble: members that share a kernel and have a vector at either side of it."""

from typing import Any

import keras
import numpy as np
from keras import ops

LINEAR = (keras.layers.Dense, keras.layers.Conv2D)


@keras.saving.register_keras_serializable("kdfuse")
class Signs(keras.initializers.Initializer):
    """1 or -1 with equal chances.

    Args:
        seed: of the draw.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        drawn = np.random.default_rng(self.seed).integers(0, 2, tuple(shape)) * 2 - 1
        return ops.convert_to_tensor(drawn.astype("float32"), dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


@keras.saving.register_keras_serializable("kdfuse")
class FastWeights(keras.layers.Layer):
    """A Dense or Conv2D layer in which each member has a kernel of its own, `W_m = W * (r_m s_m^T)`, and a bias of its own.

    Row i of the inputs is one of member `i mod members`: `activation(layer(x_i * r_m) * s_m + b_m)`. The kernel is shared; r is as long
    as there are inputs, s and b as there are outputs. Wen, Tran, Ba, 2020, "BatchEnsemble" (arXiv 2002.06715), equation 5.

    Args:
        layer: a Dense or Conv2D layer without bias and activation.
        members: how many share it.
        activation: as in Dense.
        use_bias: whether each member has a bias.
        seed: of r and s, which begin as random signs, as in the paper.
    """

    def __init__(
        self, layer: keras.layers.Layer, members: int, activation: Any = None, use_bias: bool = True, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.layer, self.members, self.use_bias, self.seed = layer, members, use_bias, seed
        self.activation = keras.activations.get(activation)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
        given, made = input_shape[self._axis], self.layer.kernel.shape[-1]
        # Flat, so that an L2 penalty, which is on weights of two axes or more, leaves them as it leaves biases.
        self.r = self.add_weight(shape=(self.members * given,), initializer=Signs(2 * self.seed), name="r")
        self.s = self.add_weight(shape=(self.members * made,), initializer=Signs(2 * self.seed + 1), name="s")
        self.b = self.add_weight(shape=(self.members * made,), initializer="zeros", name="b") if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        owner = ops.arange(ops.shape(inputs)[0]) % self.members
        outputs = self.layer(inputs * self._of(owner, self.r, inputs)) * self._of(owner, self.s, inputs)
        if self.b is not None:
            outputs = outputs + self._of(owner, self.b, inputs)
        return self.activation(outputs)

    def kernel_of(self, member: int) -> np.ndarray:
        """The kernel of one member as a plain layer would have it."""
        r, s = (np.reshape(keras.ops.convert_to_numpy(one), (self.members, -1))[member] for one in (self.r, self.s))
        kernel = keras.ops.convert_to_numpy(self.layer.kernel)
        groups = getattr(self.layer, "groups", 1)
        # Of grouped convolutions the inputs of a kernel's outputs are those of their group.
        at_inputs = np.repeat(r.reshape(groups, -1).T, kernel.shape[-1] // groups, axis=-1)
        return kernel * at_inputs * s

    def bias_of(self, member: int) -> np.ndarray:
        """The bias of one member."""
        return np.reshape(keras.ops.convert_to_numpy(self.b), (self.members, -1))[member]

    @property
    def _axis(self) -> int:
        return 1 if getattr(self.layer, "data_format", "channels_last") == "channels_first" else -1

    def _of(self, owner: Any, weights: Any, inputs: Any) -> Any:
        """For each row the vector of its member, along the axis of the channels."""
        rows = ops.take(ops.reshape(ops.cast(weights, self.compute_dtype), (self.members, -1)), owner, axis=0)
        free = (1,) * (len(inputs.shape) - 2)
        size = rows.shape[-1]
        return ops.reshape(rows, (-1, size, *free) if self._axis == 1 else (-1, *free, size))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        own = {"layer": keras.saving.serialize_keras_object(self.layer), "activation": keras.activations.serialize(self.activation)}
        return {**super().get_config(), **own, "members": self.members, "use_bias": self.use_bias, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FastWeights":
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})


@keras.saving.register_keras_serializable("kdfuse")
class ForMembers(keras.layers.Layer):
    """Gives every row to every member, one after another: `[rows * members, ...]`. In training row i goes to member `i mod members` alone.

    Args:
        members: how many.
    """

    def __init__(self, members: int, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.members = members

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return inputs if training else ops.repeat(inputs, self.members, axis=0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (None, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "members": self.members}


@keras.saving.register_keras_serializable("kdfuse")
class OverMembers(keras.layers.Layer):
    """The mean over the members of what `ForMembers` gave them: `[rows, ...]`. In training each row is that of its member.

    Args:
        members: how many.
    """

    def __init__(self, members: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.members = members

    def call(self, outputs: Any, training: bool | None = None) -> Any:
        if training:
            return outputs
        return ops.mean(ops.reshape(outputs, (-1, self.members, *outputs.shape[1:])), axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (None, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "members": self.members}
