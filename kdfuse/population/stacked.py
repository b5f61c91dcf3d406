"""Models of one structure as one: their weights stacked along an axis of members, one product of matrices for all."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.graph.copy import is_functional, is_sequential

layers = keras.layers
BY_ELEMENT = (
    layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax, layers.Dropout, layers.GaussianNoise, layers.Rescaling,
    layers.Identity,
)  # fmt: skip
"""Layers without weights that treat every number by itself, or the last axis: they take the axis of members as one more of rows."""
KNOWN = (layers.Dense, layers.Flatten, layers.Reshape, layers.InputLayer, *BY_ELEMENT)


class Stacked:
    """The forward pass of several models at once.

    Args:
        models: of one structure, as `why_not_stacked` lets pass. They are read here and written by `write`.

    Attributes:
        variables: for each trainable weight of a model one of `[members, ...]`, in float32.
        kernels: those of them with two or more axes of their own.
    """

    def __init__(self, models: Sequence[keras.Model]) -> None:
        self.models, self.count = list(models), len(models)
        self._steps = chain(models[0])
        self._columns = [list(column) for column in zip(*(model.trainable_variables for model in models), strict=True)]
        self.variables = [
            keras.Variable(np.stack([np.asarray(one) for one in column]), name=f"stacked_{place}")
            for place, column in enumerate(self._columns)
        ]
        self.kernels = [one for one in self.variables if len(one.shape) > 2]
        mine = {id(column[0]): variable for column, variable in zip(self._columns, self.variables, strict=True)}
        self._weights = {id(layer): [mine[id(weight)] for weight in layer.trainable_variables] for layer in self._steps}

    def __call__(self, inputs: Any, training: bool = False) -> Any:
        """The outputs `[members, rows, ...]` for inputs `[members, rows, ...]`."""
        x = tf.cast(inputs, "float32") if not inputs.dtype.is_floating else inputs
        for layer in self._steps:
            if isinstance(layer, layers.Dense):
                kernel, *bias = self._weights[id(layer)]
                x = tf.matmul(x, kernel.value)
                x = x + bias[0].value[:, None] if bias else x
                x = layer.activation(x) if layer.activation is not None else x
            elif isinstance(layer, layers.Flatten):
                x = tf.reshape(x, (tf.shape(x)[0], tf.shape(x)[1], int(np.prod(x.shape[2:]))))
            elif isinstance(layer, layers.Reshape):
                x = tf.reshape(x, (tf.shape(x)[0], tf.shape(x)[1], *layer.output.shape[1:]))
            else:
                x = layer(x, training=training)
        return x

    def write(self) -> None:
        """Give each model its weights."""
        for column, variable in zip(self._columns, self.variables, strict=True):
            for one, values in zip(column, np.asarray(variable), strict=True):
                one.assign(values)


def chain(model: keras.Model) -> list[Any]:
    """The layers of a model one after another, without its input."""
    return [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]


def why_not_stacked(models: Sequence[keras.Model]) -> str | None:
    """Why models cannot run as one; None where they can.

    Args:
        models: they must be alike in every layer but for the values of their weights.
    """
    first = models[0]
    for model in models:
        if not (is_functional(model) or is_sequential(model)) or not model.built:
            return f"{model.name!r} has no graph of layers"
    if len(first.inputs) != 1 or len(first.outputs) != 1:
        return "it has several inputs or outputs"
    for before, layer in zip([None, *chain(first)], chain(first), strict=False):
        name = f"layer {layer.name!r} ({type(layer).__name__})"
        if type(layer) not in KNOWN:
            return f"{name} has no form for several members"
        if isinstance(layer, layers.Softmax) and layer.axis not in (-1, len(layer.output.shape) - 1):
            return f"{name} is over another axis than the last"
        if isinstance(layer, layers.Dense) and len(layer.input.shape) != 2:
            return f"{name} is on inputs with several axes"
        if layer.dtype_policy.compute_dtype != "float32":
            return f"{name} computes in {layer.dtype_policy.compute_dtype}"
        if getattr(layer, "losses", None) or any(getattr(weight, "regularizer", None) for weight in layer.weights):
            return f"{name} adds to the loss"
        if any(getattr(weight, "constraint", None) for weight in layer.weights) or not layer.trainable:
            return f"{name} has a constraint or is frozen"
        if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
            return f"{name} is quantized in place or has LoRA weights"
        nodes = layer._inbound_nodes
        if len(nodes) != 1 or len(nodes[0].input_tensors) != 1:
            return f"{name} is called more than once, or on several tensors"
        source = nodes[0].input_tensors[0]._keras_history.operation
        if before is not None and source is not before:
            return f"{name} does not read the layer before it"
    plans = [[{**layer.get_config(), "name": ""} for layer in chain(model)] for model in models]
    seeds = ("seed", "kernel_initializer", "bias_initializer")
    bare = [[{key: value for key, value in one.items() if key not in seeds} for one in plan] for plan in plans]
    return None if all(plan == bare[0] for plan in bare) else "they differ in their layers"
