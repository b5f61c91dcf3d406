"""Build a model again with identity layers behind those with a ReLU, which computes the same (Net2DeeperNet)."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.graph.channels import Channels
from kdfuse.graph.follow import follow
from kdfuse.graph.nodes import graph_of, nodes_of
from kdfuse.graph.rebuild import _Rebuilding
from kdfuse.graph.uses import channel_axis

layers = keras.layers
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
RELUS = ("relu", "relu6")
PASSING = (layers.BatchNormalization, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D,
           layers.GaussianNoise, layers.GaussianDropout, layers.Add, layers.Concatenate)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Host:
    """Where identity layers can go.

    Attributes:
        after: the layer or operation whose output is a ReLU's.
        like: the Dense or Conv layer before it, which the new layers are like.
        path: its name, after those of the nested models around it.
        activation: `relu` or `relu6`.
        channels: how many it gives.
    """

    after: Any
    like: Any
    path: str
    activation: str
    channels: int


def find_hosts(model: keras.Model, channels: Channels, protect: Sequence[str] = ()) -> tuple[list[Host], list[str]]:
    """The hidden Dense and Conv layers with a ReLU, its own or one behind normalization, dropout, addition and concatenation.

    A ReLU gives the same again for what it gave, which no other common activation does.

    Args:
        model: with a functional graph, or a stack of layers that is built.
        channels: of the model.
        protect: names of layers that get none behind them.

    Returns:
        The hosts, and the paths of the other hidden Dense and Conv layers that are not protected.
    """
    ends, found, seen, covered = set(_ends(model)), dict[int, Host](), dict[int, str](), set[int]()
    for node, prefix in _nodes(model, channels, ""):
        operation, name = node.operation, _relu(node.operation)
        if id(operation) in ends:
            continue
        if _is_kernel(operation):
            seen[id(operation)] = prefix + operation.name
        if name is None:
            continue
        makers = [operation] if _is_kernel(operation) else [one for tensor in node.input_tensors for one in _makers(tensor)]
        covered |= {id(one) for one in makers}
        if not makers or any(_named(prefix + one.name, protect) for one in (makers[0], operation)):
            continue
        like, out = makers[0], node.outputs[0]
        axis = -1 if type(like) is layers.Dense else channel_axis(like, len(out.shape))
        found.setdefault(id(operation), Host(operation, like, prefix + like.name, name, int(out.shape[axis])))
    others = [path for one, path in seen.items() if one not in covered and not _named(path, protect)]
    return list(found.values()), others


def deepen(model: keras.Model, hosts: Sequence[Host], count: int = 1) -> tuple[keras.Model, list[str]]:
    """The model with new layers behind each host; the original is only read.

    A new layer is a Dense, or a convolution with the kernel size of the host's, that gives what it gets, and the host's ReLU.

    Args:
        model: of which the hosts are.
        hosts: of `find_hosts`.
        count: new layers behind each, at least 1.

    Returns:
        A plain model, not compiled, and the names of the new layers.
    """
    making = _Deepening(model, hosts, count)
    made = making.whole(model)
    for layer in making.made:
        layer.kernel.assign(_identity(layer))
    return made, [layer.name for layer in making.made]


class _Deepening(_Rebuilding):
    def __init__(self, model: keras.Model, hosts: Sequence[Host], count: int) -> None:
        super().__init__(follow(model), lambda ids: np.ones(ids.shape, dtype=bool))
        taken = {operation.name for operation in _operations(model)}
        self.new: dict[int, list[keras.Layer]] = {}
        for host in hosts:
            for _ in range(count):
                name = next(name for number in range(1, len(taken) + 2) if (name := f"{host.like.name}_deeper_{number}") not in taken)
                taken.add(name)
                self.new.setdefault(id(host.after), []).append(_new(host, name))

    @property
    def made(self) -> list[Any]:
        return [layer for row in self.new.values() for layer in row]

    def after(self, layer: Any) -> list[keras.Layer]:
        return self.new.get(id(layer), [])


def _new(host: Host, name: str) -> keras.Layer:
    like = host.like
    settings = {key: getattr(like, key) for key in ("use_bias", "kernel_regularizer", "bias_regularizer")}
    settings |= {"activation": host.activation, "dtype": like.dtype_policy, "name": name}
    if type(like) is layers.Dense:
        return layers.Dense(host.channels, **settings)
    padding = "causal" if like.padding == "causal" else "same"
    return type(like)(host.channels, like.kernel_size, padding=padding, data_format=like.data_format, **settings)


def _identity(layer: Any) -> np.ndarray:
    value = np.zeros(layer.kernel.shape, dtype="float32")
    if type(layer) is layers.Dense:
        return np.eye(len(value), dtype="float32")
    centre = tuple(size - 1 if layer.padding == "causal" else (size - 1) // 2 for size in layer.kernel_size)
    value[centre] = np.eye(value.shape[-1])
    return value


def _nodes(model: Any, channels: Channels, prefix: str) -> Iterator[tuple[Any, str]]:
    """The steps of a graph and of those inside it that are followed, with the path before their names."""
    for node in nodes_of(graph_of(model)):
        if graph_of(node.operation) is not None and id(node.operation) in channels.inputs:
            yield from _nodes(node.operation, channels, f"{prefix}{node.operation.name}/")
        else:
            yield node, prefix


def _ends(model: Any) -> Iterator[int]:
    """What gives the outputs of the model, by `id`."""
    for tensor in graph_of(model).outputs:
        operation = tensor._keras_history.operation
        yield id(operation)
        if graph_of(operation) is not None:
            yield from _ends(operation)


def _operations(model: Any) -> Iterator[Any]:
    graph = graph_of(model)
    for operation in graph.operations if graph is not None else ():
        yield operation
        yield from _operations(operation)


def _makers(tensor: Any) -> list[Any]:
    """The Dense and Conv layers that a tensor comes from, the nearest first, through what treats each channel by itself."""
    operation, index, _ = tensor._keras_history
    if _is_kernel(operation):
        return [operation] if operation.activation is keras.activations.linear else []
    if isinstance(operation, PASSING) or (type(operation).__name__ == "Add" and not isinstance(operation, keras.Layer)):
        return [one for given in operation._inbound_nodes[index].input_tensors for one in _makers(given)]
    return []


def _is_kernel(operation: Any) -> bool:
    kinds = (layers.Dense, *CONVOLUTIONS)
    return type(operation) in kinds and operation.quantization_mode is None and not getattr(operation, "lora_enabled", False)


def _relu(operation: Any) -> str | None:
    """`relu` or `relu6` where an operation ends with it."""
    if type(operation) is layers.ReLU:
        return "relu" if not operation.negative_slope and operation.threshold >= 0 else None
    if type(operation) is layers.Activation or _is_kernel(operation):
        return next((name for name in RELUS if operation.activation is getattr(keras.activations, name)), None)
    name = type(operation).__name__.lower()
    return name if name in RELUS and not isinstance(operation, keras.Layer) else None


def _named(path: str, names: Sequence[str]) -> bool:
    return any(path == name or path.endswith(f"/{name}") for name in names)
