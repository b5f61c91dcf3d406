"""Blocks of a graph whose output has the shape of their input, and the model without some of them."""

import dataclasses
import warnings
from collections.abc import Callable, Collection
from typing import Any

import keras

from kdfuse.graph.copy import copy_model, is_sequential
from kdfuse.graph.nodes import graph_of, nodes_of

layers = keras.layers
FOLLOWERS = (layers.BatchNormalization, layers.LayerNormalization, layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU,
             layers.PReLU, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """A part of a graph that the identity can stand for.

    Attributes:
        name: of the addition that ends a residual block, or of the layer.
        entry: the tensor that goes in.
        exit: the tensor that comes out, of the same shape.
        layers: names of what goes with it.
    """

    name: str
    entry: Any
    exit: Any
    layers: tuple[str, ...]


def find_blocks(model: keras.Model) -> list[Block]:
    """The residual blocks with an identity shortcut, and outside of them the layers with kernels whose output has their input's shape.

    A layer takes along the normalization, activation and dropout that follow it. Nested models are one layer.

    Args:
        model: with a functional graph, or a stack of layers that is built.

    Raises:
        ValueError: the model has no graph.
    """
    graph = graph_of(model)
    if graph is None:
        raise ValueError(
            f"`model`: {model.name!r} ({type(model).__name__}) has no graph of layers, for its `call` is its own. Build it from the "
            "functional API or keras.Sequential with an Input."
        )
    nodes = list(nodes_of(graph))
    above: dict[int, frozenset[int]] = {}
    for node in nodes:
        given = node.input_tensors
        reach = frozenset().union(*(above.get(id(tensor), frozenset()) for tensor in given), (id(tensor) for tensor in given))
        above.update((id(tensor), reach) for tensor in node.outputs)
    outputs = {id(tensor) for tensor in graph.outputs}
    found: list[Block] = []
    for node in nodes:
        given = node.input_tensors
        if type(node.operation).__name__ == "Add" and len(given) == 2 and len(node.operation._inbound_nodes) == 1:
            for entry, branch in (given, given[::-1]):
                if id(entry) in above.get(id(branch), ()) and tuple(entry.shape) == tuple(node.outputs[0].shape):
                    found.append(_block(node.operation.name, entry, node.outputs[0], nodes, above, outputs))
                    break
    inside = {name for block in found for name in block.layers}
    for node in nodes:
        once = sum(other.operation is node.operation for other in nodes) == 1
        end = _with_followers(node, nodes, outputs) if once and node.operation.name not in inside and _is_plain(node) else None
        if end is not None and id(end) not in outputs:  # the head stays
            found.append(_block(node.operation.name, node.input_tensors[0], end, nodes, above, outputs))
    return found


def run_without(model: keras.Model, inputs: Any, blocks: Collection[Block], call: Callable[..., Any] | None = None) -> list[Any]:
    """The flat outputs of a graph in which the identity stands for some blocks.

    Args:
        model: of which the blocks are.
        inputs: tensors or symbolic inputs, in the structure of the model's.
        blocks: of `find_blocks`.
        call: how to call an operation; by default in inference mode.
    """
    graph, skip = graph_of(model), {id(block.exit): block.entry for block in blocks}
    values = {id(tensor): value for tensor, value in zip(graph.inputs, keras.tree.flatten(inputs), strict=True)}
    needed: set[int] = set()
    todo = [_resolved(tensor, skip) for tensor in graph.outputs]
    nodes = list(nodes_of(graph))
    maker = {id(tensor): node for node in nodes for tensor in node.outputs}
    while todo:
        tensor = todo.pop()
        node = maker.get(id(tensor))
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            todo += [_resolved(one, skip) for one in node.input_tensors]
    for node in nodes:
        if id(node) in needed:
            args, kwargs = node.arguments.fill_in({id(one): values[id(_resolved(one, skip))] for one in node.input_tensors})
            made = (call or _infer)(node.operation, *args, **kwargs)
            values.update(zip(map(id, node.outputs), keras.tree.flatten(made), strict=True))
    return [values[id(_resolved(tensor, skip))] for tensor in graph.outputs]


def without_blocks(model: keras.Model, names: Collection[str]) -> keras.Model:
    """A copy of the model without the blocks of these names; the original is only read.

    Returns:
        A plain model of the remaining layers with their weights, not compiled.
    """
    twin = copy_model(model)
    blocks = [block for block in find_blocks(twin) if block.name in names]
    if is_sequential(twin):
        gone = {name for block in blocks for name in block.layers}
        kept = [layer for layer in twin.layers if layer.name not in gone]
        return keras.Sequential([keras.Input(batch_shape=twin.input_shape, dtype=twin.inputs[0].dtype, name=twin.inputs[0].name), *kept],
                                name=model.name)  # fmt: skip
    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, name=tensor.name), twin.input
    )
    outputs = run_without(twin, inputs, blocks, lambda operation, *args, **kwargs: operation(*args, **kwargs))
    with warnings.catch_warnings():  # the names of unnamed inputs differ
        warnings.simplefilter("ignore")
        made = keras.Model(inputs, keras.tree.pack_sequence_as(twin._outputs_struct, outputs), name=model.name)
    return copy_model(made)  # whose layers know of no other graph


def _block(name: str, entry: Any, end: Any, nodes: list[Any], above: dict[int, frozenset[int]], outputs: set[int]) -> Block:
    """What lies between entry and exit and is used for nothing else."""
    gone: list[Any] = []
    for node in reversed(nodes):
        made = [id(tensor) for tensor in node.outputs]
        users = [other for other in nodes if any(id(tensor) in made for tensor in other.input_tensors)]
        ends = id(end) in made
        between = id(entry) in above.get(made[0], ()) and id(entry) not in made and not outputs & set(made)
        if ends or (between and users and all(user in gone for user in users)):
            gone.append(node)
    return Block(name, entry, end, tuple(node.operation.name for node in reversed(gone)))


def _is_plain(node: Any) -> bool:
    operation, given = node.operation, node.input_tensors
    return (
        isinstance(operation, keras.Layer)
        and len(given) == len(node.outputs) == 1
        and tuple(given[0].shape) == tuple(node.outputs[0].shape)
        and any(len(weight.shape) > 1 for weight in operation.weights)
    )


def _with_followers(node: Any, nodes: list[Any], outputs: set[int]) -> Any:
    end = node.outputs[0]
    while id(end) not in outputs:
        users = [other for other in nodes if any(one is end for one in other.input_tensors)]
        if len(users) != 1 or not isinstance(users[0].operation, FOLLOWERS):
            break
        end = users[0].outputs[0]
    return end


def _resolved(tensor: Any, skip: dict[int, Any]) -> Any:
    while id(tensor) in skip:
        tensor = skip[id(tensor)]
    return tensor


def _infer(operation: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(operation, keras.Layer) and operation._call_has_training_arg:
        kwargs["training"] = False
    return operation(*args, **kwargs)
