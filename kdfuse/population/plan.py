"""Plans: a dense network, read from its Keras model as a list of layers."""

from typing import Any, NamedTuple

import keras
import numpy as np

from kdfuse.graph.copy import is_functional, is_sequential
from kdfuse.population.slopes import SLOPES, Elu, LeakyRelu, Relu, Slope
from kdfuse.population.stacked import chain

layers = keras.layers
ELEMENTWISE = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)


class Hidden(NamedTuple):
    """A hidden layer: dense, then batch normalization, activation and dropout, where it has them.

    Attributes:
        dense: the layer of the kernel.
        norm: of batch normalization, or None.
        activation: its activation.
        rate: of the dropout behind it.
    """

    dense: Any
    norm: Any
    activation: Slope
    rate: float


class Plan(NamedTuple):
    """A chain of dense layers.

    Attributes:
        features: numbers in a row of input.
        input_rate: of dropout on the input.
        hidden: its hidden layers.
        head: the last dense layer.
        activation: the name of the head's activation.
    """

    features: int
    input_rate: float
    hidden: tuple[Hidden, ...]
    head: Any
    activation: str


def read(model: keras.Model) -> Plan | str:
    """The plan of a model, or why it has none, as the end of a sentence."""
    if not (is_functional(model) or is_sequential(model)) or not model.built:
        return f"{model.name!r} has no graph of layers"
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return "it has several inputs or outputs"
    steps = chain(model)
    for before, layer in zip([None, *steps], steps, strict=False):
        reason = _refused(layer, before)
        if reason is not None:
            return f"layer {layer.name!r} ({type(layer).__name__}) {reason}"
    return _assembled(model, steps)


def _assembled(model: keras.Model, steps: list[Any]) -> Plan | str:
    """The layers in groups: each dense layer with what follows it."""
    shape = tuple(model.inputs[0].shape[1:])
    if None in shape or len(shape) == 0 or (len(shape) > 1 and not any(isinstance(layer, layers.Flatten) for layer in steps)):
        return "its input has no fixed length"
    input_rate, groups = 0.0, []
    for layer in steps:
        if isinstance(layer, layers.Dense):
            groups.append([layer])
        elif groups:
            groups[-1].append(layer)
        elif isinstance(layer, layers.Dropout):
            if input_rate:
                return "it has two dropouts in a row"
            input_rate = float(layer.rate)
        elif not isinstance(layer, layers.Flatten):
            return f"layer {layer.name!r} ({type(layer).__name__}) comes before the first dense layer"
    if not groups:
        return "it has no dense layer"
    made: list[Hidden] = []
    for group in groups:
        one = _hidden(group)
        if isinstance(one, str):
            return one
        made.append(one)
    head = made.pop()
    if head.norm is not None or head.rate:
        return "its last layer has batch normalization or dropout behind it"
    if head.activation.name not in ("linear", "softmax", "sigmoid"):
        return f"its head is {head.activation.name}"
    if any(layer.activation.name == "softmax" for layer in made):
        return "a hidden layer is softmax"
    return Plan(int(np.prod(shape)), input_rate, tuple(made), head.dense, head.activation.name)


def _hidden(group: list[Any]) -> Hidden | str:
    dense, norm, act, rate = group[0], None, None, 0.0
    if dense.activation is not keras.activations.linear:
        act = dense
    for layer in group[1:]:
        name = f"layer {layer.name!r} ({type(layer).__name__})"
        if isinstance(layer, layers.BatchNormalization):
            if norm is not None or act is not None or rate:
                return f"{name} does not directly follow a linear dense layer"
            if dense.use_bias:
                return f"{name} follows a dense layer with a bias, which it cancels: give that layer use_bias=False"
            norm = layer
        elif isinstance(layer, layers.Dropout):
            if rate:
                return "it has two dropouts in a row"
            rate = float(layer.rate)
        elif isinstance(layer, layers.Flatten):
            continue
        elif act is not None or rate:
            return f"{name} is a second activation, or comes after dropout"
        else:
            act = layer
    slope = _slope(act)
    return slope if isinstance(slope, str) else Hidden(dense, norm, slope, rate)


def _slope(act: Any) -> Slope | str:
    """The activation of a layer, or None's, as a value with its derivative."""
    if act is None:
        return SLOPES["linear"]()
    if isinstance(act, layers.ReLU):
        limit = np.inf if act.max_value is None else float(act.max_value)
        return Relu(negative_slope=float(act.negative_slope), threshold=float(act.threshold), max_value=limit)
    if isinstance(act, layers.LeakyReLU):
        return LeakyRelu(negative_slope=float(act.negative_slope))
    if isinstance(act, layers.ELU):
        return Elu(alpha=float(act.alpha))
    name = str(getattr(act.activation, "__name__", type(act.activation).__name__))
    if name not in SLOPES or act.activation is not getattr(keras.activations, name, None):
        return f"layer {act.name!r} has the activation {name!r}"
    return SLOPES[name]()


def _refused(layer: Any, before: Any) -> str | None:
    """Why a layer cannot be part of a plan; None where it can."""
    if type(layer) not in (layers.Dense, layers.Flatten, layers.Dropout, layers.BatchNormalization, *ELEMENTWISE):
        return "is neither dense nor by element"
    if isinstance(layer, layers.Dense) and len(layer.input.shape) != 2:
        return "is on inputs with several axes"
    if isinstance(layer, layers.Dropout) and layer.noise_shape is not None:
        return "has a noise shape"
    if isinstance(layer, layers.BatchNormalization) and (
        not (layer.center and layer.scale) or layer.axis not in (-1, 1) or getattr(layer, "renorm", False)
    ):
        return "has no centre, no scale or another axis"
    if layer.dtype_policy.compute_dtype != "float32":
        return f"computes in {layer.dtype_policy.compute_dtype}"
    if getattr(layer, "losses", None) or any(getattr(weight, "regularizer", None) for weight in layer.weights):
        return "adds to the loss"
    if any(getattr(weight, "constraint", None) for weight in layer.weights) or not layer.trainable:
        return "has a constraint or is frozen"
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return "is quantized in place or has LoRA weights"
    nodes = layer._inbound_nodes
    if len(nodes) != 1 or len(nodes[0].input_tensors) != 1:
        return "is called more than once, or on several tensors"
    if before is not None and nodes[0].input_tensors[0]._keras_history.operation is not before:
        return "does not read the layer before it"
    return None
