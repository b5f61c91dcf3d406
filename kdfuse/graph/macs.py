"""Multiply-accumulates: what one forward pass of one sample costs."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.graph.nodes import graph_of, nodes_of
from kdfuse.graph.trace import Call, watching

layers = keras.layers
UNSEEN = ("Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv", "DotProductAttention")


class _Unknown(Exception):
    """The cost of a layer cannot be told."""


def count_macs(model: keras.Model, example: Any = None) -> int | None:
    """Multiply-accumulates of one sample's forward pass in inference.

    Counted are the products of matrices and convolutions: Dense, EinsumDense, convolutions of all kinds, recurrent
    layers, attention, `Dot`, and `keras.ops.matmul`, `dot`, `tensordot` and `einsum` in a functional graph. Biases,
    activations, normalisation, pooling and other elementwise work count nothing. Padding counts as if it were data. A
    transposed convolution counts each input position times its kernel. A shared layer counts at each call. Products
    that a user's own layer makes with plain operations and without weights of its own are not seen.

    Args:
        model: a model; it is traced, not run, and stays as it is.
        example: a batch of inputs: gives the shapes that the model leaves open.

    Returns:
        The count, or None where it cannot be told: an open size of image or sequence, an unbuilt model, a recurrent cell
        or a layer with weights of the user's own, a model that cannot be traced.
    """
    if not model.built and example is None:
        return None
    specs = _specs(model, example)
    if specs is None:
        return None
    if not model.built:
        model(example)
    static = _from_graph(model)
    if static is not None:
        return static
    batch = next((int(spec.shape[0]) for spec in keras.tree.flatten(specs)), 1)
    # Traced and not run: nothing is computed and no state moves.
    with watching(model) as calls:
        try:
            tf.function(lambda inputs: model(inputs, training=False), autograph=False).get_concrete_function(specs)
        except Exception:  # a model that runs eagerly only, with an error of its own kind
            return None
    try:
        return sum(_tree(call, calls) for call in calls if call.parent is None) // batch
    except _Unknown:
        return None


def _specs(model: keras.Model, example: Any) -> Any:
    if example is not None:
        arrays = keras.tree.map_structure(lambda x: x if tf.is_tensor(x) else np.asarray(x), example)
        specs = keras.tree.map_structure(lambda x: tf.TensorSpec((1, *x.shape[1:]), tf.as_dtype(x.dtype)), arrays)
    else:
        shapes: Any = (model.get_build_config() or {}).get("input_shape")
        inputs = getattr(model, "input", None) if getattr(model, "_functional", True) is not None else None
        if inputs is None and not (isinstance(shapes, list | tuple) and shapes):
            return None
        if inputs is None:
            specs = tf.TensorSpec((1, *shapes[1:]), keras.backend.floatx())
        else:
            specs = keras.tree.map_structure(lambda x: tf.TensorSpec((x.shape[0] or 1, *x.shape[1:]), x.dtype), inputs)
    return None if any(size is None for spec in keras.tree.flatten(specs) for size in spec.shape) else specs


def _from_graph(model: keras.Model) -> int | None:
    """The count by the shapes that a graph of Keras's own layers holds, where no layer has others inside; None for any other model."""
    graph, total = graph_of(model), 0
    if graph is None:
        return None
    for node in nodes_of(graph):
        layer = node.operation
        plain = isinstance(layer, keras.Layer) and not isinstance(layer, layers.Lambda | layers.RNN | keras.Model)
        if not plain or layer._layers or type(layer).__module__.split(".")[0] != "keras":
            return None
        parts = (node.arguments.args, node.arguments.kwargs, node.outputs)
        given, named, made = (keras.tree.map_structure(_of_one, part) for part in parts)
        try:
            total += _tree(Call(layer, given, named, made[0] if len(made) == 1 else made), [])
        except _Unknown:
            return None
    return total


def _of_one(tensor: Any) -> Any:
    """The shape of a graph's tensor for a batch of one."""
    return keras.KerasTensor((1, *tensor.shape[1:]), tensor.dtype) if isinstance(tensor, keras.KerasTensor) else tensor


def _tree(call: Call, calls: list[Call]) -> int:
    """A call with all that happens inside it."""
    inside = [other for other in calls if other.parent is call]
    layer = call.layer
    if isinstance(layer, layers.TimeDistributed):
        # However many steps were traced, each costs the same.
        return _shape(_first(call))[1] * _tree(inside[-1], calls) if inside else 0
    if isinstance(layer, layers.RNN):
        return _recurrent(layer, call)
    if isinstance(layer, layers.Dense | layers.EinsumDense) or hasattr(layer, "kernel_size"):
        return _weighted(layer, call)
    return _own(layer, call) + sum(_tree(other, calls) for other in inside)


def _weighted(layer: Any, call: Call) -> int:
    given, made = _shape(_first(call)), _shape(call.outputs)
    if isinstance(layer, layers.Dense):
        return math.prod(given) * layer.units
    if isinstance(layer, layers.EinsumDense):
        return _einsum(layer.equation, [given, tuple(layer.kernel.shape)])
    first = layer.data_format == "channels_first"
    at_input = given[2:] if first else given[1:-1]
    at_output = made[2:] if first else made[1:-1]
    if isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
        size = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    else:
        size = math.prod(layer.kernel.shape)
    transposed = isinstance(layer, layers.Conv1DTranspose | layers.Conv2DTranspose | layers.Conv3DTranspose)
    return given[0] * math.prod(at_input if transposed else at_output) * size


def _recurrent(layer: Any, call: Call) -> int:
    given = _shape(_first(call))
    if isinstance(layer, layers.ConvLSTM1D | layers.ConvLSTM2D | layers.ConvLSTM3D):
        made = _shape(keras.tree.flatten(call.outputs)[0])
        space = made[2:] if layer.return_sequences else made[1:]
        places = math.prod(space[1:] if layer.cell.data_format == "channels_first" else space[:-1])
        return given[0] * given[1] * places * _size(layer.cell)
    cells = layer.cell.cells if isinstance(layer.cell, layers.StackedRNNCells) else [layer.cell]
    return given[0] * given[1] * sum(map(_size, cells))


def _size(cell: Any) -> int:
    if type(cell).__module__.split(".")[0] != "keras":
        raise _Unknown
    return math.prod(cell.kernel.shape) + math.prod(cell.recurrent_kernel.shape)


def _own(layer: Any, call: Call) -> int:
    """What a layer or an operation does beside the layers inside it."""
    name = type(layer).__name__
    if not isinstance(layer, keras.Layer):
        return _operation(layer, name, call)
    if isinstance(layer, layers.MultiHeadAttention):
        query, value = _argument(call, 0, "query"), _argument(call, 1, "value")
        pairs = _pairs_of_places(layer, query, value)
        return query[0] * layer.num_heads * pairs * (layer.key_dim + layer.value_dim)
    if isinstance(layer, layers.GroupQueryAttention):
        query, value = _argument(call, 0, "query"), _argument(call, 1, "value")
        return query[0] * layer.num_query_heads * query[1] * value[1] * 2 * layer.head_dim
    if isinstance(layer, layers.Attention):  # AdditiveAttention is one too
        query, value, *key = [_shape(tensor) for tensor in call.args[0]]
        keys = key[0] if key else value
        return math.prod(query[:-1]) * keys[-2] * (query[-1] + value[-1])
    if isinstance(layer, layers.Dot):
        first = _shape(call.args[0][0])
        axes = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
        return math.prod(_shape(call.outputs)) * first[axes]
    if type(layer).__module__.split(".")[0] != "keras" and any(len(v.shape) > 1 for v in layer._trainable_variables):
        raise _Unknown
    return 0


def _operation(operation: Any, name: str, call: Call) -> int:
    if name in UNSEEN:
        raise _Unknown
    if name in ("Matmul", "Dot"):
        return math.prod(_shape(call.outputs)) * _shape(call.args[0])[-1]
    if name == "Einsum":
        return _einsum(operation.subscripts, [_shape(tensor) for tensor in call.args])
    if name == "Tensordot":
        contracted = math.prod(_shape(call.args[0])) * math.prod(_shape(call.args[1])) / math.prod(_shape(call.outputs))
        return math.prod(_shape(call.outputs)) * math.isqrt(round(contracted))
    return 0


def _pairs_of_places(layer: Any, query: tuple[int, ...], value: tuple[int, ...]) -> int:
    axes = layer.attention_axes or tuple(range(1, len(query) - 1))
    others = [query[axis] for axis in range(1, len(query) - 1) if axis not in axes]
    return math.prod(others) * math.prod(query[axis] for axis in axes) * math.prod(value[axis] for axis in axes)


def _einsum(equation: str, shapes: list[tuple[int, ...]]) -> int:
    """The product of the sizes of all indices: one multiplication for each combination."""
    sizes: dict[str, int] = {}
    for term, shape in zip(equation.split("->")[0].replace(" ", "").split(","), shapes, strict=True):
        before, dots, after = term.partition("...")
        free = len(shape) - len(before) - len(after)
        names = [*before, *([f"...{free - place}" for place in range(free)] if dots else []), *after]
        for index, size in zip(names, shape, strict=True):
            sizes[index] = max(sizes.get(index, 1), size)
    return math.prod(sizes.values())


def _argument(call: Call, position: int, name: str) -> tuple[int, ...]:
    return _shape(call.args[position] if len(call.args) > position else call.kwargs[name])


def _first(call: Call) -> Any:
    """The first tensor that a layer was called with, by place or by name."""
    return keras.tree.flatten((call.args, call.kwargs))[0]


def _shape(tensor: Any) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if any(size is None for size in shape):
        raise _Unknown
    return shape
