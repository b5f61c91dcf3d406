"""A private copy of a model: the same graph, names, weights and flags, sharing nothing that training changes.

A functional graph is replayed over new inputs with each layer replaced by its copy, so a layer that is used several
times, also inside a nested model, stays one layer. Other layers come back through their own `get_config`, with the
very functions and classes that the original holds: nothing is looked up by name, and no pickled code is run.
"""

import functools
import inspect
import tempfile
import types
import warnings
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.models.functional import Functional

from kdfuse.graph.remake import remake

Memo = dict[int, tuple[Any, Any]]


def copy_model(model: keras.Model, example: Any = None) -> keras.Model:
    """A copy of `model` that is not compiled; the original is only read.

    Args:
        model: a Functional, Sequential or subclassed model, built or not, compiled or not.
        example: a batch of inputs. A subclassed model is built by calling it on them; without them it is built
            from the shapes it remembers.

    Returns:
        A model of the same class, with the same layer names, weights (moving statistics and the states of seed
        generators included), `trainable` flags and dtype policies. An unbuilt model stays unbuilt unless
        `example` is given.

    Raises:
        ValueError: a layer cannot be made again from its config; the message names it and the mend.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model`: expected a keras.Model. Received: {type(model).__name__}. A tf_keras model must be rebuilt with Keras 3."
        )
    memo: Memo = {}
    copied = _copy(model, memo)
    if example is not None and not _has_graph(copied):
        if model.built or not copied.built:
            copied(example)
    elif model.built and not copied.built:
        _build(model, copied)
    pairs = list(_pairs(memo))
    for original, twin in pairs:
        twin.trainable = original.trainable
        if not _is_container(original):
            _copy_attributes(original, twin)
    if model.built:
        for original, twin in memo.values():
            if not _is_container(original) and isinstance(original, keras.Layer):
                _copy_variables(original, twin)
        for original, twin in pairs:
            _copy_own_state(original, twin)
        if len(model.variables) != len(copied.variables):
            raise ValueError(
                f"`model`: the copy of {model.name!r} has {len(copied.variables)} variables, the original {len(model.variables)}. A layer "
                "is attached to the model outside its graph, or is shared in a way that a config cannot tell. Make it part of the graph, "
                "or write `get_config` and `from_config` for the class of the model."
            )
    return copied


def is_functional(model: Any) -> bool:
    """Whether calling `model` runs its functional graph and nothing else."""
    return isinstance(model, Functional) and type(model).call is Functional.call


def is_sequential(model: Any) -> bool:
    """Whether calling `model` runs its stack of layers and nothing else."""
    return isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call


def _has_graph(model: Any) -> bool:
    return isinstance(model, Functional) or (isinstance(model, keras.Sequential) and model._functional is not None)


def _is_container(layer: Any) -> bool:
    return _can_replay(layer) or type(layer) is keras.Sequential


def _can_replay(layer: Any) -> bool:
    if not isinstance(layer, Functional) or type(layer).get_config is not Functional.get_config:
        return False
    names = list(inspect.signature(type(layer).__init__).parameters)[1:]
    return names[:2] == ["inputs", "outputs"] or names == ["args", "kwargs"]


def _copy(layer: Any, memo: Memo) -> Any:
    if id(layer) not in memo:
        if _can_replay(layer):
            twin = _copy_functional(layer, memo)
        elif type(layer) is keras.Sequential:
            twin = _copy_sequential(layer, memo)
        elif isinstance(layer, keras.layers.InputLayer):
            twin = _copy_input(layer)
        elif isinstance(layer, keras.Layer):
            twin = remake(layer)
        else:
            twin = _copy_operation(layer)
        memo[id(layer)] = (layer, twin)
    return memo[id(layer)][1]


def _copy_functional(model: Functional, memo: Memo) -> Functional:
    inputs = keras.tree.map_structure(lambda tensor: _new_input(tensor, memo), model.input)
    outputs = model._run_through_graph(inputs, operation_fn=lambda operation: _copy(operation, memo))
    with warnings.catch_warnings():  # the names of unnamed inputs differ, and the original was warned about
        warnings.simplefilter("ignore")
        return type(model)(inputs, outputs, name=model.name)


def _new_input(tensor: Any, memo: Memo) -> Any:
    operation = tensor._keras_history.operation
    if isinstance(operation, keras.layers.InputLayer):
        return _copy(operation, memo).output
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, name=tensor.name)


def _copy_input(layer: keras.layers.InputLayer) -> keras.layers.InputLayer:
    return keras.layers.InputLayer(batch_shape=layer.batch_shape, dtype=layer.dtype, sparse=layer.sparse, ragged=layer.ragged,
                                   optional=layer.optional, name=layer.name)  # fmt: skip


def _copy_sequential(model: keras.Sequential, memo: Memo) -> keras.Sequential:
    twin = keras.Sequential(name=model.name)
    for layer in model._layers:
        twin.add(_copy(layer, memo), rebuild=False)
    if model._functional is not None:
        twin.build(twin._layers[0].batch_shape)
    return twin


def _copy_operation(operation: Any) -> Any:
    try:
        twin = type(operation).from_config(operation.get_config())
    except (NotImplementedError, TypeError, ValueError):
        # An operation has no state of its own; only its place in the graph must not be shared.
        twin = object.__new__(type(operation))
        twin.__dict__.update(operation.__dict__)
        twin._inbound_nodes, twin._outbound_nodes = [], []
    twin.name = operation.name
    return twin


def _build(model: keras.Model, twin: keras.Model) -> None:
    shapes = model.get_build_config()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if shapes:
            twin.build_from_config(shapes)
    if len(twin.variables) != len(model.variables):
        raise ValueError(
            f"`example`: the copy of {model.name!r} ({type(model).__name__}) cannot be built from the shapes it remembers. Give a batch of "
            "its inputs: copy_model(model, example)."
        )


def _pairs(memo: Memo) -> Iterator[tuple[keras.Layer, keras.Layer]]:
    """Each layer of the original with its copy, outer layers first."""
    seen: set[int] = set()
    for original, twin in reversed(list(memo.values())):
        if not isinstance(original, keras.Layer):
            continue
        found = [(original, twin)]
        if not _is_container(original):
            parts, twin_parts = original._flatten_layers(), twin._flatten_layers()
            if len(parts) != len(twin_parts) or any(type(a) is not type(b) for a, b in zip(parts, twin_parts, strict=True)):
                raise ValueError(
                    f"`model`: the copy of {original.name!r} ({type(original).__name__}) has other layers inside than the original. Its "
                    "`get_config` must return what decides on them, and they must be made in `__init__` or `build`."
                )
            found = list(zip(parts, twin_parts, strict=True))
        for pair in found:
            if id(pair[0]) not in seen:
                seen.add(id(pair[0]))
                yield pair


def _copy_attributes(original: keras.Layer, twin: keras.Layer) -> None:
    """Plain values and functions that the user set on a layer, which its config may not hold.

    A config also holds a function by its name alone: a user's own `relu` comes back as that of Keras.
    """
    known = _attributes_of_keras()
    for key, value in vars(original).items():
        found = vars(twin).get(key)
        if key in known or key.startswith("_"):
            continue
        if isinstance(value, types.FunctionType):
            # Equal code means a function that the constructor made, with the copy's own layers in its closure.
            if isinstance(found, types.FunctionType) and found.__code__ is not value.__code__:
                setattr(twin, key, value)
        elif isinstance(value, bool | int | float | str | None) and (type(found) is not type(value) or found != value):
            setattr(twin, key, value)


@functools.cache
def _attributes_of_keras() -> set[str]:
    return {*vars(keras.Layer(name="layer")), *vars(keras.Model(name="model"))}


def _copy_own_state(original: keras.Layer, twin: keras.Layer) -> None:
    """State that a layer saves in a way of its own: adapted statistics, vocabularies."""
    if original.name != twin.name:
        twin.name = original.name
    if type(original).load_own_variables is not keras.Layer.load_own_variables and original.built:
        store: dict[str, Any] = {}
        original.save_own_variables(store)
        twin.load_own_variables({key: keras.ops.convert_to_numpy(value) for key, value in store.items()})
    if hasattr(original, "save_assets") and hasattr(original, "load_assets"):
        with tempfile.TemporaryDirectory() as folder:
            original.save_assets(folder)
            twin.load_assets(folder)


def _copy_variables(original: keras.Layer, twin: keras.Layer) -> None:
    if original.built and not twin.built:
        twin.build_from_config(original.get_build_config() or {})
    given, taken = original.variables, twin.variables
    if [(v.name, tuple(v.shape), v.dtype) for v in given] != [(v.name, tuple(v.shape), v.dtype) for v in taken]:
        raise ValueError(
            f"`model`: the copy of {original.name!r} ({type(original).__name__}) has other weights than the original: {_shapes(taken)} "
            f"instead of {_shapes(given)}. Its `get_config` must return every argument of `__init__` that decides on its weights."
        )
    for variable, twin_variable in zip(given, taken, strict=True):
        twin_variable.assign(keras.ops.convert_to_numpy(variable))
        twin_variable.trainable = variable.trainable


def _shapes(variables: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in variables]
