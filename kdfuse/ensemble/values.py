"""What members give, on one scale: layers that make probabilities or logits of the outputs of a model."""

from typing import Any

import keras
from keras import ops

from kdfuse.graph import heads  # the module: Keras registers this file while that one is only beginning
from kdfuse.settings import choose


class _OfHead(keras.layers.Layer):
    """A layer that knows what its inputs are.

    Args:
        head: one of `kdfuse.graph.heads.HEADS`.
    """

    def __init__(self, head: str, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.head = choose("head", head, heads.HEADS)
        self.supports_masking = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "head": self.head}


@keras.saving.register_keras_serializable("kdfuse")
class Probabilities(_OfHead):
    """Probabilities `[..., classes]` or `[..., columns]`, in float32; the values themselves of a regression.

    Args:
        head: one of `kdfuse.graph.heads.HEADS`. `logits` of one column are those of "yes".
    """

    def call(self, outputs: Any) -> Any:
        outputs = ops.cast(outputs, "float32")
        if self.head == "logits" and outputs.shape[-1] != 1:
            return ops.softmax(outputs, axis=-1)
        return ops.sigmoid(outputs) if self.head in ("logits", "sigmoid_logits") else outputs


@keras.saving.register_keras_serializable("kdfuse")
class Logits(_OfHead):
    """Logits `[..., classes]` or `[..., columns]`, in float32; the values themselves of a regression.

    Of probabilities they are their logarithms, for a sigmoid those of the odds: no further than 87 from the largest.

    Args:
        head: one of `kdfuse.graph.heads.HEADS`.
    """

    def call(self, outputs: Any) -> Any:
        outputs = ops.cast(outputs, "float32")
        if self.head == "softmax":
            return ops.log(ops.maximum(outputs, heads.TINY))
        if self.head == "sigmoid":
            # Half the distance from 1 to the float32 below it stands for a rounded 1.
            return ops.log(ops.maximum(outputs, heads.TINY)) - ops.log(ops.maximum(1.0 - outputs, 2.0**-25))
        return outputs


def head_of_probabilities(head: str, columns: int) -> str:
    """The head of what `Probabilities(head)` gives: `softmax`, `sigmoid` or `regression`.

    Args:
        head: one of `kdfuse.graph.heads.HEADS`.
        columns: the size of the last axis.
    """
    if head == "logits":
        return "softmax" if columns != 1 else "sigmoid"
    return "sigmoid" if head == "sigmoid_logits" else head
