"""What training lends to a model and takes back: a dtype policy and an L2 penalty."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from kdfuse.graph.copy import is_functional
from kdfuse.graph.final import finals


@contextlib.contextmanager
def precision(model: keras.Model, policy: str | None) -> Iterator[None]:
    """Compute in `policy` inside the block; the variables keep their dtype.

    The layers that make the outputs stay in float32, so that losses are computed on float32 values.

    Args:
        model: a private copy. Its layers' policies are put back at the end.
        policy: `mixed_float16`, `mixed_bfloat16` or `float32`; None leaves all as it is.
    """
    if policy is None:
        yield
        return
    layers = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.layers.InputLayer)]
    before = [(layer, layer.dtype_policy) for layer in layers]
    last = [*output_layers(model), *(end.layer for end in finals(model) or [])]
    try:
        for layer in layers:
            layer.dtype_policy = "float32" if any(layer is other for other in last) else policy
        yield
    finally:
        for layer, own in before:
            layer.dtype_policy = own


def output_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that make a model's outputs, into nested models; of a subclassed model, none."""
    if isinstance(model, keras.Sequential):
        last = [model.layers[-1]] if model.layers else []
    elif is_functional(model):
        last = [tensor._keras_history.operation for tensor in model.outputs]
    else:
        return []
    return [inner for layer in last for inner in (output_layers(layer) if isinstance(layer, keras.Model) else [layer])]


class _Summed(keras.regularizers.Regularizer):
    """The layer's own penalty and half of `l2` times the sum of squares."""

    def __init__(self, own: Any, l2: float) -> None:
        self.own, self.l2 = own, l2

    def __call__(self, weights: Any) -> Any:
        penalty = 0.5 * self.l2 * keras.ops.sum(keras.ops.square(weights))
        return penalty if self.own is None else penalty + self.own(weights)


@contextlib.contextmanager
def weight_penalty(model: keras.Model, l2: float) -> Iterator[None]:
    """Add `l2 / 2 * sum(w ** 2)` to the training loss, over all trainable weights of two or more dimensions.

    Kernels, recurrent kernels and embeddings are penalised, biases and normalisation weights are not. It comes on top
    of the regularizers that the layers have, which are put back at the end.

    Args:
        model: a private copy.
        l2: the factor, at least 0.
    """
    chosen = [weight for weight in model.trainable_weights if len(weight.shape) > 1] if l2 else []
    before = [(weight, weight.regularizer) for weight in chosen]
    try:
        for weight, own in before:
            weight.regularizer = _Summed(own, l2)
        yield
    finally:
        for weight, own in before:
            weight.regularizer = own
