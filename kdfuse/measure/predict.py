"""One pass over a split: outputs, targets and weights of the same rows, whatever order a stream gives."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.arrays import leaves
from kdfuse.splits import ArraySplit, Split

Run = Callable[[Any], tuple[Any, Any]]


@dataclasses.dataclass
class Pass:
    """What one pass over a split gave.

    Attributes:
        outputs: NumPy, in the structure of the model's outputs.
        targets: NumPy, in the structure of the labels.
        weights: sample weights, in theirs, or None.
        masks: Keras masks in the structure of the outputs, None where there is none.
        mark: equal for passes over the same rows in the same order.
    """

    outputs: Any
    targets: Any
    weights: Any
    masks: Any
    mark: str


def predict(model: keras.Model, split: Split, batch_size: int = 256) -> Any:
    """What `model` gives in inference mode for every row of `split`, as NumPy in the structure of its outputs.

    Unlike `model.predict` it leaves the model's compile state and its `predict_function` alone, and runs no callback.

    Args:
        model: a model, compiled or not.
        split: rows; the batches of a stream are its own.
        batch_size: rows at a time. The results do not depend on it but for rounding.
    """
    return one_pass(model, split, batch_size).outputs


def runner(model: keras.Model) -> Run:
    """The model in inference mode as one `tf.function` of its own: outputs and their Keras masks."""

    def run(inputs: Any) -> tuple[Any, Any]:
        outputs = model(inputs, training=False)
        masks = [getattr(output, "_keras_mask", None) for output in keras.tree.flatten(outputs)]
        return outputs, masks

    return tf.function(run, reduce_retracing=True, autograph=False)  # type: ignore[no-any-return]


def one_pass(model: keras.Model, split: Split, batch_size: int = 256, run: Run | None = None) -> Pass:
    """Run `model` over `split` once and keep what belongs together.

    Args:
        model: a model.
        split: rows.
        batch_size: rows at a time, of arrays.
        run: what `runner` gave for the model, to trace it once for several splits.
    """
    run = run or runner(model)
    size = fixed_batch(model) or batch_size
    if isinstance(split, ArraySplit):
        size = fixed_batch(model) or min(batch_size, len(split))
    digest = hashlib.sha256()
    taken = []
    for x, y, weights in split.batches(size):
        rows = len(next(leaves(y))[1])
        # A short batch is filled up to the size of the others: one trace, also where the batch size is fixed.
        size = max(size, rows) if isinstance(split, ArraySplit) or fixed_batch(model) else rows
        outputs, masks = run(keras.tree.map_structure(lambda value, full=size: tf.convert_to_tensor(filled(value, full)), x))
        outputs = keras.tree.map_structure(lambda value, count=rows: _array(value)[:count], outputs)
        taken.append((outputs, y, weights, [None if mask is None else _array(mask)[:rows] for mask in masks]))
        if not isinstance(split, ArraySplit):
            for place, value in leaves(x):
                digest.update(f"{place}{value.shape}{value.dtype}".encode() + np.ascontiguousarray(value).tobytes())
    mark = split.fingerprint if isinstance(split, ArraySplit) else digest.hexdigest()
    parts = list(zip(*taken, strict=True))
    outputs, targets, weights, masks = (_joined(part) for part in parts)
    return Pass(outputs, targets, weights, masks, mark)


def fixed_batch(model: keras.Model) -> int | None:
    """How many rows a model takes at a time, where its inputs say so."""
    if not model.built or (isinstance(model, keras.Sequential) and model._functional is None):
        return None
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    return next((int(tensor.shape[0]) for tensor in inputs if tensor.shape and tensor.shape[0] is not None), None)


def filled(value: Any, rows: int) -> Any:
    """`value` with its last row repeated until there are `rows`."""
    missing = rows - len(value)
    return value if missing <= 0 else np.concatenate([value, np.repeat(value[-1:], missing, axis=0)])


def _array(tensor: Any) -> np.ndarray:
    array = tensor.numpy()
    return array.astype("float32") if array.dtype.kind not in "fiub" else array


def _joined(parts: tuple[Any, ...]) -> Any:
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {name: _joined(tuple(part[name] for part in parts)) for name in first}
    if isinstance(first, list | tuple):
        return type(first)(_joined(tuple(part[place] for part in parts)) for place in range(len(first)))
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise ValueError(
            f"`split`: expected batches of one shape but for the rows. Received: {sorted(shapes)[:4]}. Pad the steps of all batches to one "
            "length, and mask the padding with sample weights of 0."
        )
    return np.concatenate(parts)
