"""What a model takes and gives, as one traced function with named inputs and outputs, ready to be written to a file."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kdfuse.graph.copy import copy_model
from kdfuse.settings import quoted


class Traced(NamedTuple):
    """A model in inference mode.

    Attributes:
        module: holds the variables, so that a saved model has them.
        function: the concrete function; it takes flat tensors and gives a dict.
        inputs: names of the inputs in the order of the model's own.
        outputs: names of the outputs, likewise.
    """

    module: tf.Module
    function: Any
    inputs: list[str]
    outputs: list[str]


def trace(model: Any, example: Any = None, batch_size: int | None = None) -> Traced:
    """Trace `model` once in inference mode.

    Inputs keep the keys of a dict, else the names of the input layers. A single output is called `output_0`, those of a list
    `output_0`, `output_1` and so on, those of a dict keep their keys.

    Args:
        model: a Keras 3 or tf_keras model.
        example: a batch of inputs, for a model that does not say what it takes.
        batch_size: the rows of a batch; None for any number, unless the model fixes it.

    Raises:
        ValueError: the model does not say what it takes and there is no example, the example does not fit, or Python in the model
            asks for the value of a tensor.
    """
    structure = input_structure(model, example)
    flat = keras.tree.flatten(structure)
    names = _names(structure, flat)
    specs = [_spec(leaf, name, batch_size, model) for leaf, name in zip(flat, names, strict=True)]
    outputs: list[str] = []

    def serve(*tensors: Any) -> dict[str, Any]:
        found = named_outputs(model(keras.tree.pack_sequence_as(structure, list(tensors)), training=False))
        outputs[:] = found
        return {name: tf.identity(value) for name, value in found.items()}

    function = tf.function(serve, input_signature=specs, autograph=False)
    try:
        concrete = function.get_concrete_function()
    except Exception as error:
        raise ValueError(
            f"`model`: {getattr(model, 'name', type(model).__name__)!r} cannot be traced: {type(error).__name__}: {quoted(error, 300)}. "
            "Build it with the functional API of Keras operations alone, with sizes that are known and without Python branches on "
            "tensors, or write a .keras file."
        ) from error
    module = tf.Module()
    # Not the model itself: its own functions would be traced and written as well.
    module.held = list(concrete.graph.variables)
    module.function = function
    return Traced(module, concrete, names, outputs)


def in_float32(model: Any, example: Any = None) -> Any:
    """The model itself, or for one that computes in another precision (mixed precision) a copy that computes in float32."""
    others = {"float16", "bfloat16", "float64"}
    if not isinstance(model, keras.Model) or not any(layer.compute_dtype in others for layer in model._flatten_layers()):
        return model
    twin = copy_model(model, example)
    for layer in twin._flatten_layers():
        if layer.compute_dtype in others:
            layer.dtype_policy = "float32"
        for variable in [*layer._trainable_variables, *layer._non_trainable_variables]:
            if keras.backend.standardize_dtype(variable.dtype) in others:
                # A layer that was built keeps its variables, and Keras casts none to a wider type than its own.
                variable._value = tf.Variable(tf.cast(variable._value, "float32"), trainable=variable.trainable, name=variable.name)
                variable._dtype = "float32"
    return twin


def input_structure(model: Any, example: Any = None) -> Any:
    """The model's inputs in their structure: symbolic tensors, or the arrays of `example` where it does not declare them."""
    for name in ("_inputs_struct", "_nested_inputs"):  # of Keras 3 and of tf_keras
        found = getattr(model, name, None)
        if found is not None:
            return found
    functional = getattr(model, "_functional", None)
    if functional is not None:
        return input_structure(functional)
    declared = getattr(model, "inputs", None)
    if declared:
        return declared[0] if len(declared) == 1 else list(declared)
    if example is None:
        raise ValueError(
            f"`model`: {getattr(model, 'name', model)!r} does not say what it takes, as a subclassed model has no graph. "
            "Give a batch of inputs as `example`, or build the model with the functional API."
        )
    return keras.tree.map_structure(np.asarray, example)


def named_outputs(outputs: Any) -> dict[str, Any]:
    """Outputs by name: the keys of a flat dict, else `output_0` and so on."""
    if isinstance(outputs, dict) and not any(keras.tree.is_nested(value) for value in outputs.values()):
        return {str(name): value for name, value in outputs.items()}
    return {f"output_{place}": value for place, value in enumerate(keras.tree.flatten(outputs))}


def restore_outputs(named: dict[str, Any]) -> Any:
    """The reverse of `named_outputs`: an array for a single output, a list for `output_0` and so on, else a dict."""
    if len(named) == 1:
        return next(iter(named.values()))
    if set(named) == {f"output_{place}" for place in range(len(named))}:
        return [named[f"output_{place}"] for place in range(len(named))]
    return dict(named)


def match_inputs(given: Any, names: Sequence[str]) -> list[Any]:
    """The arrays of a batch in the order of `names`: a dict by its keys, anything else in the order of its leaves.

    Raises:
        ValueError: too many, too few, or a missing key.
    """
    if isinstance(given, dict) and not any(keras.tree.is_nested(value) for value in given.values()):
        by_name = {clean(str(key)): value for key, value in given.items()}
        if set(names) <= set(by_name):
            return [by_name[name] for name in names]
        if len(by_name) != 1 or len(names) != 1:
            raise ValueError(f"`inputs`: expected a dict with the keys {list(names)}. Received: {sorted(by_name)}.")
    flat = keras.tree.flatten(given)
    if len(flat) != len(names):
        raise ValueError(f"`inputs`: expected {len(names)} array{'s' * (len(names) != 1)}: {list(names)}. Received: {len(flat)}.")
    return list(flat)


def clean(name: str) -> str:
    """A name as file formats allow it."""
    text = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return text if re.match("[A-Za-z]", text) else f"input_{text}"


def _names(structure: Any, flat: Sequence[Any]) -> list[str]:
    if isinstance(structure, dict) and len(structure) == len(flat):
        wanted = [str(key) for key in sorted(structure)]  # the order of keras.tree
    else:
        wanted = [str(getattr(leaf, "name", "") or f"input_{place}") for place, leaf in enumerate(flat)]
    names: list[str] = []
    for name in map(clean, wanted):
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _spec(leaf: Any, name: str, batch_size: int | None, model: Any) -> tf.TensorSpec:
    shape = list(leaf.shape)
    if not shape:
        raise ValueError("`example`: expected arrays with a row for each sample. Received: a single value.")
    if isinstance(leaf, np.ndarray):
        shape[0] = None
    if batch_size is not None and shape[0] not in (None, batch_size):
        raise ValueError(
            f"`batch_size`: the model {getattr(model, 'name', '')!r} fixes its batch at {shape[0]} rows. Received: {batch_size}. "
            "Leave it out, or build the model with an open batch size."
        )
    shape[0] = batch_size if shape[0] is None else shape[0]
    return tf.TensorSpec(shape, keras.backend.standardize_dtype(leaf.dtype), name=name)
