"""The last layer behind each output of a model, and whether its activation may be left out for a while."""

import dataclasses
from typing import Any

import keras

from kdfuse.graph.copy import is_sequential
from kdfuse.graph.nodes import graph_of, nodes_of
from kdfuse.graph.trace import layer_calls

ACTIVATIONS = ("softmax", "sigmoid", "linear", "log_softmax")


@dataclasses.dataclass(frozen=True)
class Final:
    """The end of one output.

    Attributes:
        layer: the layer or operation that gives the values, or None where it cannot be told.
        activation: `"softmax"`, `"sigmoid"`, `"linear"`, `"log_softmax"`, or None for another or an unknown one.
        alone: the layer is used once, and nothing but this output uses what it gives.
    """

    layer: Any = None
    activation: str | None = None
    alone: bool = False

    @property
    def removable(self) -> bool:
        """Whether a softmax or sigmoid can be left out without changing anything else."""
        return self.alone and self.activation in ("softmax", "sigmoid") and isinstance(self.layer, keras.Layer)


def finals(model: keras.Model, example: Any = None) -> list[Final] | None:
    """The end of each output, in the order of `keras.tree.flatten` of the model's outputs.

    Args:
        model: any model. A functional graph and a stack of layers are read, nested models included.
        example: a batch of inputs: a model without a graph is called on it, to see which layer's output it returns.

    Returns:
        One `Final` per output; None for a model without a graph where no example is given.
    """
    graph = graph_of(model)
    if graph is not None or is_sequential(model):
        uses = _Uses()
        uses.add(model)
        return [_end(model, index, uses) for index in range(len(graph.outputs) if graph is not None else 1)]
    return None if example is None else _watched(model, example)


class _Uses:
    """How often each layer is called and each tensor is read, nested models included."""

    def __init__(self) -> None:
        self.calls: dict[int, int] = {}
        self.reads: dict[int, int] = {}

    def add(self, layer: Any) -> None:
        self.calls[id(layer)] = self.calls.get(id(layer), 0) + 1
        graph = graph_of(layer)
        if graph is not None:
            for node in nodes_of(graph):
                for tensor in node.input_tensors:
                    self.reads[id(tensor)] = self.reads.get(id(tensor), 0) + 1
                self.add(node.operation)
        elif isinstance(layer, keras.Layer):
            for part in layer._flatten_layers(include_self=False, recursive=False):
                self.add(part)

    def once(self, layer: Any) -> bool:
        return self.calls.get(id(layer), 0) == 1


def _end(layer: Any, index: int, uses: _Uses) -> Final:
    graph = graph_of(layer)
    if graph is not None:
        return _end_of_graph(graph, index, uses, alone=uses.once(layer))
    if is_sequential(layer):
        layers = [part for part in layer.layers if not _passes_on(part)]
        return _end(layers[-1], 0, uses) if layers else Final()
    if isinstance(layer, keras.layers.TimeDistributed):
        found = _end(layer.layer, index, uses)
        return dataclasses.replace(found, alone=found.alone and uses.once(layer))
    return Final(layer, _activation(layer), uses.once(layer))


def _end_of_graph(graph: Any, index: int, uses: _Uses, alone: bool) -> Final:
    outputs = [id(tensor) for tensor in graph.outputs]
    tensor, reads, given = graph.outputs[index], 0, 1
    while True:
        operation, node_index, tensor_index = tensor._keras_history
        alone = alone and uses.reads.get(id(tensor), 0) == reads and outputs.count(id(tensor)) == given
        if not _passes_on(operation):
            break
        alone = alone and uses.once(operation)
        tensor, reads, given = operation._inbound_nodes[node_index].input_tensors[0], 1, 0
    found = _end(operation, tensor_index, uses)
    return dataclasses.replace(found, alone=found.alone and alone)


def _passes_on(operation: Any) -> bool:
    """Whether an operation gives its input on unchanged but for the dtype."""
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.linear
    return isinstance(operation, keras.layers.Identity) or type(operation).__name__ == "Cast"


def _activation(operation: Any) -> str | None:
    name = type(operation).__name__
    if isinstance(operation, keras.Layer) and getattr(operation, "gives", None) == "logits":
        return "linear"  # a combiner says so, as its values need not
    if isinstance(operation, keras.layers.Softmax) or (not isinstance(operation, keras.Layer) and name == "Softmax"):
        return "softmax" if operation.axis in (-1, [-1], (-1,)) else None
    if not isinstance(operation, keras.Layer):
        return {"Sigmoid": "sigmoid", "LogSoftmax": "log_softmax"}.get(name)
    # A user's own subclass may do more after its activation; wrappers and recurrent layers keep theirs inside.
    if type(operation).__module__.split(".")[0] != "keras" or isinstance(operation, keras.layers.Wrapper | keras.layers.RNN):
        return None
    activation = getattr(operation, "activation", None)
    return next((known for known in ACTIVATIONS if activation is getattr(keras.activations, known)), None)


def _watched(model: keras.Model, example: Any) -> list[Final]:
    """Call `model` once and see which layer made each tensor that it returns."""
    outputs, calls = layer_calls(model, example)
    flat = keras.tree.flatten(outputs)
    found = []
    for output in flat:
        # The innermost layer that returned this very tensor ended first.
        maker = next((call for call in calls if call.outputs is output and not _passes_on(call.layer)), None)
        if maker is None or maker.layer is model:
            found.append(Final())
            continue
        inside = _ancestors(maker)
        read = any(item is output for call in calls if call not in inside for item in keras.tree.flatten([call.args, call.kwargs]))
        once = sum(call.layer is maker.layer for call in calls) == 1
        # With several outputs, plain operations that nobody sees may take one from another.
        found.append(Final(maker.layer, _activation(maker.layer), once and not read and len(flat) == 1))
    return found


def _ancestors(call: Any) -> list[Any]:
    found = [call]
    while found[-1].parent is not None:
        found.append(found[-1].parent)
    return found
