"""Layers of a mixture of experts: weights of the members for each row, and the sum of what they give."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kdfuse.ensemble.masks import common_mask

LEAST = -1e9
TINY = 1e-10


@keras.saving.register_keras_serializable("kdfuse")
class TopKGate(keras.layers.Layer):
    """Weights of the members `[rows, members]` from logits of the same shape: a softmax over all, or over the k largest.

    The members left out have the weight 0, and no gradient flows to their logits. In training it adds `balance` times the squared
    coefficient of variation of the members' importance, the sum of their weights over the batch. Shazeer et al., 2017,
    "Outrageously Large Neural Networks" (arXiv 1701.06538), equations 3, 5, 6 and 7, without the noise.

    Args:
        top_k: how many members a row has, at least 1; None for all.
        balance: from 0.
    """

    def __init__(self, top_k: int | None = None, balance: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.top_k = top_k
        self.balance = float(balance)

    def call(self, logits: Any, training: bool | None = None) -> Any:
        logits = ops.cast(logits, "float32")
        count = logits.shape[-1]
        if self.top_k is not None and self.top_k < count:
            # By place and not by value: of equal logits no more than k are taken.
            chosen = ops.sum(ops.one_hot(ops.top_k(logits, self.top_k)[1], count, dtype="float32"), axis=-2)
            logits = ops.where(chosen > 0, logits, LEAST)
        weights = ops.softmax(logits, axis=-1)
        if training and self.balance:
            self.add_loss(self.balance * variation(ops.sum(weights, axis=0)))
        return weights

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "top_k": self.top_k, "balance": self.balance}


@keras.saving.register_keras_serializable("kdfuse")
class GatedSum(keras.layers.Layer):
    """The sum of the members' predictions, each times its weight for the row.

    Called on a list: weights `[rows, members]`, then for each member a tensor `[rows, ..., classes]`. Jacobs, Jordan, Nowlan and Hinton,
    1991, "Adaptive Mixtures of Local Experts", equation 1.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, given: Sequence[Any]) -> Any:
        weights, *members = (ops.cast(one, "float32") for one in given)
        stacked = ops.stack(members, axis=-1)
        shares = ops.reshape(weights, (-1,) + (1,) * (len(stacked.shape) - 2) + (weights.shape[-1],))
        return ops.sum(shares * stacked, axis=-1)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return common_mask(previous_mask[1:]) if previous_mask is not None else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[1]


@keras.saving.register_keras_serializable("kdfuse")
class Inference(keras.layers.Layer):
    """A model that runs in inference mode, also while what is around it is trained: no dropout, moving statistics stay.

    Args:
        model: what runs.
    """

    def __init__(self, model: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def call(self, inputs: Any) -> Any:
        return self.model(inputs, training=False)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Inference":
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})


def variation(importance: Any) -> Any:
    """The squared coefficient of variation of a vector: 0 where all are equal."""
    mean = ops.mean(importance)
    return ops.mean(ops.square(importance - mean)) / (ops.square(mean) + TINY)
