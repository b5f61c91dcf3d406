"""Heads: what the numbers that a model gives mean, and how to get its logits.

`HEADS`:
- `"logits"`: unnormalised log-probabilities of exclusive classes (one column: the logit of "yes").
- `"softmax"`: probabilities of exclusive classes, rows sum to 1.
- `"sigmoid"`: a probability in each column on its own.
- `"sigmoid_logits"`: a logit in each column on its own (a linear last layer for a multilabel task).
- `"regression"`: values.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from kdfuse.graph.final import Final, finals
from kdfuse.settings import choose

HEADS = ("logits", "softmax", "sigmoid", "regression", "sigmoid_logits")
TINY = float(np.finfo("float32").tiny)
_known: WeakKeyDictionary[keras.Model, Any] = WeakKeyDictionary()


def detect_head(model: keras.Model, task: Any, example: Any = None, declared: Any = "auto") -> Any:
    """The head of each output of `model`.

    A functional or sequential model is read by its last layer's activation, a subclassed one by the layer whose
    output it returns. Where that does not tell, the values on `example` do: rows in [0, 1] that sum to 1 are a
    softmax, values in [0, 1] a sigmoid, others logits.

    Args:
        model: a model.
        task: `"classification"`, `"binary"`, `"multilabel"` or `"regression"`, or a structure of them for several outputs.
        example: a batch of inputs, at least a few rows. May be None where the last layers tell enough.
        declared: `"auto"`, one of `HEADS`, or a structure of them for several outputs.

    Returns:
        One of `HEADS`, or a structure of them like the model's outputs.

    Raises:
        ValueError: a declared head contradicts the model, or the head cannot be told.
    """
    if model in _known:
        return _known[model]
    ends = finals(model, example)
    outputs: Any = None
    if ends is None or any(end.activation is None for end in ends):
        if example is None and not _all(task, "regression"):
            raise ValueError("`example`: expected a batch of inputs, for the last layer does not tell the head. Received: None.")
        outputs = None if example is None else model(example, training=False)
    structure = outputs if outputs is not None else _structure(model, example)
    values: list[Any] = keras.tree.flatten(structure) if structure is not None else [None]
    names = _names(structure, len(values))
    tasks, heads = _align("task", task, structure, names), _align("head", declared, structure, names)
    ends = ends if ends is not None else [Final()] * len(values)
    found = []
    for end, value, one_task, one_declared, name in zip(ends, values, tasks, heads, names, strict=True):
        where = f" of output {name!r}" if len(values) > 1 else ""
        columns = None if value is None else value.shape[-1] if len(value.shape) > 1 else 1
        found.append(_head(end, None if outputs is None else value, one_task, one_declared, where, columns))
    return found[0] if structure is None or not keras.tree.is_nested(structure) else keras.tree.pack_sequence_as(structure, found)


@contextlib.contextmanager
def known_head(model: keras.Model, head: Any) -> Iterator[None]:
    """Inside, `detect_head` gives this head for `model`, also while it computes something else, such as rounded probabilities."""
    _known[model] = head
    try:
        yield
    finally:
        del _known[model]


@contextlib.contextmanager
def raw_outputs(model: keras.Model, example: Any = None) -> Iterator[Any]:
    """Inside, calling `model` gives the values before its final softmax or sigmoid, where they can be had.

    The activation of the last layer is exchanged for the time of the `with`, and put back whatever happens. It may be
    used while a `tf.function` is traced; do not call the model's own `fit`, `evaluate` or `predict` inside, since they
    keep what they traced. Where the last layer is shared, or something else in the graph reads it, or the model has no
    graph, nothing is exchanged.

    Args:
        model: a model; only read otherwise.
        example: a batch of inputs, to look into a model without a graph; it is called once.

    Yields:
        For each output whether it gives raw values: a bool, or a structure like the model's outputs. False for a
        model without a graph where no example is given, however many outputs it has.
    """
    ends = finals(model, example)
    if ends is None:
        yield False
        return
    with contextlib.ExitStack() as stack:
        for end in ends:
            if end.removable:
                stack.enter_context(_without_activation(end.layer))
        swapped = [end.removable for end in ends]
        structure = _structure(model, example)
        yield swapped[0] if structure is None or not keras.tree.is_nested(structure) else keras.tree.pack_sequence_as(structure, swapped)


def to_logits(outputs: Any, head: Any, raw: Any = False) -> Any:
    """Logits over the last axis, in float32, for a softmax over them.

    From raw values they are exact. From probabilities they are as good as these: a float32 softmax holds nothing
    below 1e-38 (float16: 6e-8), so logits come back no more than 87 (16) below the largest; a float32 sigmoid holds
    nothing above 1 - 6e-8, so its logits end at 17.3 (float16: 8.3). A softmax gives logits up to a shift.

    Args:
        outputs: a tensor `[..., classes]` or `[..., columns]`, or a structure of them.
        head: one of `HEADS`, or a structure of them.
        raw: whether `outputs` are the values before the final activation, or a structure.

    Returns:
        `"logits"` and `"softmax"`: `[..., classes]`. `"sigmoid"`, `"sigmoid_logits"` and one column of logits: the two
        classes "no" and "yes" on a new last axis, `[..., 2]` for one column and `[..., columns, 2]` for more.
        `"regression"`: the values.
    """
    if keras.tree.is_nested(outputs):
        return _map(lambda value, one, is_raw: to_logits(value, one, is_raw), outputs, head, raw)
    choose("head", head, HEADS)
    outputs = keras.ops.convert_to_tensor(outputs)
    given = keras.backend.standardize_dtype(outputs.dtype)
    z = keras.ops.cast(outputs, "float32")
    if head == "softmax":
        return z if raw else keras.ops.log(keras.ops.maximum(z, TINY))
    if head == "sigmoid" and not raw:
        # Half the distance from 1 to the number below it: what a rounded 1 stands for at most.
        gap = {"float16": 2.0**-12, "bfloat16": 2.0**-9}.get(given, 2.0**-25)
        z = keras.ops.log(keras.ops.maximum(z, TINY)) - keras.ops.log(keras.ops.maximum(1.0 - z, gap))
    if head in ("sigmoid", "sigmoid_logits") or (head == "logits" and (len(z.shape) == 1 or z.shape[-1] == 1)):
        if len(z.shape) > 1 and z.shape[-1] == 1:
            z = keras.ops.squeeze(z, axis=-1)
        return keras.ops.stack([keras.ops.zeros_like(z), z], axis=-1)
    return z


def probabilities(outputs: Any, head: Any) -> Any:
    """Probabilities as NumPy float64, from what a model gives.

    Args:
        outputs: an array `[..., classes]` or `[..., columns]`, or a structure of them.
        head: one of `HEADS`, or a structure of them.

    Returns:
        `"logits"`: the softmax over the last axis, or the sigmoid of one column. `"sigmoid_logits"`: the sigmoid.
        `"softmax"` and `"sigmoid"`: as they are.

    Raises:
        ValueError: a regression has no probabilities.
    """
    if keras.tree.is_nested(outputs):
        return _map(lambda value, one, _: probabilities(value, one), outputs, head, False)
    if choose("head", head, HEADS) == "regression":
        raise ValueError("`head`: expected a head of classes. Received: 'regression', whose outputs have no probabilities.")
    z = np.asarray(keras.ops.convert_to_numpy(outputs)).astype("float64")
    if head in ("softmax", "sigmoid"):
        return z
    if head == "sigmoid_logits" or z.ndim == 1 or z.shape[-1] == 1:
        return np.exp(-np.logaddexp(0.0, -z))
    shifted = np.exp(z - z.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _head(end: Final, values: Any, task: str, declared: str, where: str, columns: int | None) -> str:
    if declared != "auto":
        choose("head", declared, HEADS)
    if task == "regression":
        if declared not in ("auto", "regression"):
            raise ValueError(f"`head`: the task{where} is a regression. Received: head={declared!r}. Give head='regression'.")
        return "regression"
    if declared == "regression":
        raise ValueError(f"`head`: the task{where} is {task}, not a regression. Received: head='regression'. Give head='auto'.")
    known = {"linear": "logits", "log_softmax": "logits"}.get(end.activation or "", end.activation)
    found = known or _by_values(values, task)
    if found == "softmax" and columns == 1:
        raise ValueError(f"`model`: a softmax over one column{where} is always 1. Use a sigmoid, or one column for each class.")
    if found == "logits" and task == "multilabel" and end.activation != "log_softmax":
        found = "sigmoid_logits"
    alike = {"logits", "sigmoid_logits"}
    if declared not in ("auto", found) and not {declared, found} <= alike:
        how = f"ends in a {end.activation} activation" if known else "gives values that look like " + _looks(found)
        raise ValueError(f"`head`: the model{where} {how}. Received: head={declared!r}. Give head={found!r}, or head='auto'.")
    return found if declared == "auto" or task == "multilabel" else declared


def _looks(head: str) -> str:
    return {"softmax": "a softmax (in [0, 1], rows sum to 1)", "sigmoid": "a sigmoid (in [0, 1])"}.get(head, "logits (not all in [0, 1])")


def _by_values(values: Any, task: str) -> str:
    array = np.asarray(keras.ops.convert_to_numpy(values)).astype("float64")
    if not np.isfinite(array).all():
        raise ValueError("`model`: its outputs on the example are not finite, so its head cannot be told. Mend its weights, or the inputs.")
    slack = 1e-2 if keras.backend.standardize_dtype(values.dtype) in ("float16", "bfloat16") else 1e-4
    if array.min() < -slack or array.max() > 1 + slack:
        return "logits"
    if array.ndim > 1 and array.shape[-1] > 1 and task != "multilabel" and np.allclose(array.sum(axis=-1), 1, atol=slack):
        return "softmax"
    return "sigmoid"


_lock = threading.RLock()
_out: dict[int, tuple[int, Any]] = {}


@contextlib.contextmanager
def _without_activation(layer: keras.Layer) -> Iterator[None]:
    # Counted: the replicas of a strategy trace in threads of their own, and one may leave while another is still inside.
    with _lock:
        depth, restore = _out.get(id(layer), (0, None))
        if depth == 0:
            restore = _swap(layer)
        _out[id(layer)] = (depth + 1, restore)
    try:
        yield
    finally:
        with _lock:
            depth, restore = _out.pop(id(layer))
            if depth > 1:
                _out[id(layer)] = (depth - 1, restore)
            else:
                restore()


def _swap(layer: keras.Layer) -> Any:
    if not isinstance(layer, keras.layers.Softmax):
        activation = layer.activation
        layer.activation = keras.activations.linear
        return lambda: setattr(layer, "activation", activation)

    def call(inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return inputs
        return keras.ops.where(
            keras.ops.cast(mask, "bool"), inputs, keras.ops.cast(-1e9 if inputs.dtype != "float16" else -3e4, inputs.dtype)
        )

    vars(layer)["call"] = call
    return lambda: vars(layer).pop("call", None)


def _structure(model: keras.Model, example: Any) -> Any:
    """The model's outputs as symbolic tensors in their structure, or None where nothing tells it."""
    if isinstance(model, keras.Sequential):
        return model.outputs[0] if model._functional is not None else None
    structure = getattr(model, "_outputs_struct", None)
    if structure is not None:
        return structure[0] if isinstance(structure, list | tuple) and len(structure) == 1 else structure
    return None if example is None else keras.tree.map_structure(lambda tensor: tensor, model(example, training=False))


def _names(structure: Any, count: int) -> list[Any]:
    if isinstance(structure, dict):
        return sorted(structure)
    return list(range(count))


def _align(argument: str, value: Any, structure: Any, names: list[Any]) -> list[Any]:
    """`value` for each output, in the order in which the outputs are flattened."""
    if isinstance(value, str) or value is None:
        return ["auto" if value is None else value] * len(names)
    flat = list(keras.tree.flatten(value))
    if isinstance(value, dict) and isinstance(structure, dict) and sorted(value) != names:
        raise ValueError(f"`{argument}`: expected one for each output {names}. Received: {sorted(value)}.")
    if len(flat) != len(names):
        raise ValueError(f"`{argument}`: expected one for each of the {len(names)} outputs. Received: {value!r}.")
    return flat


def _all(task: Any, name: str) -> bool:
    return all(one == name for one in keras.tree.flatten(task))


def _map(function: Any, outputs: Any, head: Any, raw: Any) -> Any:
    flat = keras.tree.flatten(outputs)
    heads = [head] * len(flat) if isinstance(head, str) else keras.tree.flatten(head)
    raws = [raw] * len(flat) if isinstance(raw, bool) else keras.tree.flatten(raw)
    if not len(flat) == len(heads) == len(raws):
        raise ValueError(f"`head`: expected one for each of the {len(flat)} outputs. Received: {head!r}.")
    return keras.tree.pack_sequence_as(outputs, [function(*item) for item in zip(flat, heads, raws, strict=True)])
