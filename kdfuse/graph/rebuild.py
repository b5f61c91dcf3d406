"""Build a model again without some of its channels: layers of new sizes, sliced weights, the same graph."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from kdfuse.graph.channels import Channels, Ids, Member, Trail, Weight, spread, taken
from kdfuse.graph.copy import (
    _can_replay,
    _copy_attributes,
    _copy_operation,
    _copy_own_state,
    _is_container,
    is_sequential,
)
from kdfuse.graph.nodes import graph_of
from kdfuse.graph.remake import remake, without_arrays

Stays = Callable[[Ids], np.ndarray]


class Rebuilt(NamedTuple):
    """A model made anew, and for each layer and operation of the original, by `id`, what stands in its place."""

    model: keras.Model
    twins: dict[int, Any]


def rebuild(model: keras.Model, channels: Channels, gone: Iterable[int]) -> Rebuilt:
    """The model without some channels; the original is only read.

    Args:
        model: what `channels` was made from.
        channels: of the model.
        gone: roots of the channels to remove. None may be protected, and each layer keeps at least one unit.

    Returns:
        A plain model of the same layer names, not compiled, whose weights are the parts of the original's that stay. It computes what
        the original does with the removed channels' outgoing weights set to 0.

    Raises:
        ValueError: a protected channel is to go, or all units of a layer.
    """
    removed = list(gone)
    reasons = channels.reasons
    for root in removed:
        if root in reasons:
            raise ValueError(f"`gone`: channel {root} stays, for it is {reasons[root]}.")
    making = _Rebuilding(channels, channels.stay(removed))
    return Rebuilt(making.whole(model), {known: twin for known, (_, twin) in making.memo.items()})


def silence_channels(model: keras.Model, channels: Channels, gone: Iterable[int]) -> None:
    """Set to 0, in place, all weights that read the channels `gone`: the model then computes what `rebuild` would give."""
    stays = channels.stay(gone)
    for weight, axis in reading(channels):
        ids = weight.axes[axis].ids
        weight.variable.assign(keras.ops.convert_to_numpy(weight.variable) * spread(weight, axis, stays(ids).astype("float32")))


def reading(channels: Channels) -> Iterator[tuple[Weight, int]]:
    """Each weight and axis along which a kernel reads channels."""
    for member in channels.members.values():
        for weight in member.weights:
            for axis, kind in weight.axes.items():
                if kind.role == "in":
                    yield weight, axis


def count_parameters(model: keras.Model, channels: Channels, gone: Iterable[int]) -> int:
    """How many weights `rebuild` would leave, without building it."""
    stays, total = channels.stay(gone), sum(int(np.prod(variable.shape)) for variable in model.weights)
    for member in channels.members.values():
        for weight in member.weights:
            total -= int(np.prod(weight.variable.shape)) - _size(weight, stays)
    return total


def _size(weight: Weight, stays: Stays) -> int:
    sizes = list(weight.variable.shape)
    for axis, (_, _, ids) in weight.axes.items():
        sizes[axis] = int(stays(ids[0] if ids.ndim == 2 else ids).sum())
    return int(np.prod(sizes))


class _Rebuilding:
    def __init__(self, channels: Channels, stays: Stays) -> None:
        self.channels, self.stays = channels, stays
        self.memo: dict[int, tuple[Any, Any]] = {}

    def whole(self, model: keras.Model) -> keras.Model:
        made = self.model(model)
        weights = {id(weight.variable): weight for member in self.channels.members.values() for weight in member.weights}
        for original, twin in self.memo.values():
            if isinstance(original, keras.Layer) and not _is_container(original):
                self.fill(original, twin, weights)
            elif isinstance(original, keras.Layer):
                twin.trainable = original.trainable
        for original, twin in self.memo.values():  # a container's flag went down to the layers inside it
            if isinstance(original, keras.Layer) and not _is_container(original):
                for part, twin_part in zip(original._flatten_layers(), twin._flatten_layers(), strict=True):
                    twin_part.trainable = part.trainable
        return made

    def model(self, model: Any) -> Any:
        graph, inputs = graph_of(model), []
        for tensor, trail in zip(graph.inputs, self.channels.inputs[id(model)], strict=True):
            inputs.append(self.input(tensor, trail))
        if is_sequential(model):
            twin = keras.Sequential(name=model.name)
            twin.add(inputs[0]._keras_history.operation, rebuild=False)
            for layer in model.layers:
                for one in (self.layer(layer), *self.after(layer)):
                    twin.add(one, rebuild=False)
            twin.build(tuple(inputs[0].shape))
            return twin
        given = keras.tree.pack_sequence_as(model.input, inputs)
        outputs = model._run_through_graph(given, operation_fn=self.called)
        outputs = keras.tree.pack_sequence_as(model._outputs_struct, keras.tree.flatten(outputs))
        kind = type(model) if _can_replay(model) else keras.Model
        with warnings.catch_warnings():  # the names of unnamed inputs differ
            warnings.simplefilter("ignore")
            return kind(given, outputs, name=model.name)

    def input(self, tensor: Any, trail: Trail | None) -> Any:
        shape = list(tensor.shape)
        if trail is not None and shape[trail.axis] is not None:
            shape[trail.axis] = int(self.stays(trail.ids).sum())
        operation = tensor._keras_history.operation
        name = operation.name if isinstance(operation, keras.layers.InputLayer) else tensor.name
        return keras.Input(batch_shape=tuple(shape), dtype=tensor.dtype, sparse=tensor.sparse, name=name)

    def layer(self, layer: Any) -> Any:
        if id(layer) not in self.memo:
            nested = graph_of(layer) is not None and id(layer) in self.channels.inputs
            twin = self.model(layer) if nested else self.resized(layer)
            self.memo[id(layer)] = (layer, twin)
        return self.memo[id(layer)][1]

    def after(self, layer: Any) -> list[keras.Layer]:
        """New layers behind what stands for `layer`; none here."""
        return []

    def called(self, layer: Any) -> Callable[..., Any]:
        """What stands for a layer in a graph, with the new layers behind it."""
        first, others = self.layer(layer), self.after(layer)
        return first if not others else lambda *args, **kwargs: functools.reduce(lambda x, one: one(x), others, first(*args, **kwargs))

    def resized(self, layer: Any) -> Any:
        member = self.channels.members.get(id(layer))
        if not isinstance(layer, keras.Layer):
            if member is None or member.resize is None:
                return _copy_operation(layer)
            config = layer.get_config()
            member.resize(config, self.count(member))
            return type(layer).from_config(config)
        if member is None or _is_container(layer):
            return remake(layer)
        config = without_arrays(layer.get_config())
        if member.resize is not None:
            member.resize(config, self.count(member))
        with _config(layer, config):
            return remake(layer)

    def count(self, member: Member) -> Callable[[str], int]:
        def count(slot: str) -> int:
            left = int(self.stays(member.slots[slot]).sum())
            if not left:
                raise ValueError(f"`gone`: expected at least one channel to stay. Received: all of {slot!r} of {member.path!r}.")
            return left

        return count

    def value(self, weight: Weight, value: np.ndarray, twin: keras.Variable) -> np.ndarray:
        """What the variable `twin` gets of a weight's value."""
        return taken(weight, value, self.stays)

    def fill(self, original: keras.Layer, twin: keras.Layer, weights: dict[int, Weight]) -> None:
        """The parts of a layer's weights that stay, and all else that it holds."""
        variables, twins = original.variables, twin.variables
        own = any(id(variable) in weights for variable in variables)
        if len(variables) != len(twins):
            raise ValueError(f"`model`: {original.name!r} made anew has {len(twins)} variables, the original {len(variables)}.")
        for variable, twin_variable in zip(variables, twins, strict=True):
            value = keras.ops.convert_to_numpy(variable)
            if id(variable) in weights:
                value = self.value(weights[id(variable)], value, twin_variable)
            if tuple(value.shape) != tuple(twin_variable.shape):
                raise ValueError(
                    f"`model`: {variable.path} made anew has the shape {tuple(twin_variable.shape)}, its part that stays {value.shape}. "
                    f"Name {original.name!r} in `protect`."
                )
            twin_variable.assign(value)
            twin_variable.trainable = variable.trainable
        for part, twin_part in zip(original._flatten_layers(), twin._flatten_layers(), strict=True):
            if not own:
                _copy_own_state(part, twin_part)
                _copy_attributes(part, twin_part)


@contextlib.contextmanager
def _config(layer: keras.Layer, config: dict[str, Any]) -> Iterator[None]:
    """Inside, the layer says that `config` is its own."""
    vars(layer)["get_config"] = lambda: config
    try:
        yield
    finally:
        del vars(layer)["get_config"]
