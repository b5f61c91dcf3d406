"""BatchNorm statistics that fit a compressed model: what its layers see now, not what they saw before."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.splits import ArraySplit

BATCH = 128


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The BatchNorm layers of a model, into nested ones, that follow their batches while it trains: the frozen ones do not."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable]


def reestimate(model: keras.Model, data: Data, rows: int = 1024, seed: int = 0) -> int:
    """Measure the statistics of the BatchNorm layers again on training rows, without momentum.

    Every other layer runs in inference mode. A BatchNorm layer normalises by its batch, as in training, so those behind it see
    what they would see; its moving mean and variance become those of all rows together. Frozen layers keep theirs.

    Args:
        model: a built private copy; the moving statistics are all that changes.
        data: rows are drawn from its training split, in an order given by `seed`; of a stream they are the first ones.
        rows: how many, at least 2; fewer where there are fewer.
        seed: of the draw.

    Returns:
        How many layers were measured again; 0 where the model has none.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 2:
        raise ValueError(f"`rows`: expected an integer of at least 2. Received: rows={rows!r}.")
    layers = batch_norms(model)
    if not layers:
        return 0
    sums: dict[int, list[Any]] = {}
    with _watched(layers, sums):
        for x in batches(data, rows, BATCH, seed):
            model(keras.tree.map_structure(keras.ops.convert_to_tensor, x), training=False)
    found = [layer for layer in layers if id(layer) in sums]
    for layer in found:
        count, first, second = sums[id(layer)]
        mean = first / count
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(np.maximum(second / count - mean**2, 0.0))
    return len(found)


def batches(data: Data, rows: int, size: int, seed: int = 0) -> Iterator[Any]:
    """Inputs of up to `rows` training rows in batches of about `size`: drawn without repeats from arrays, the first of a stream.

    No batch has a single row, unless there is only one: its variance would be 0.
    """
    split: Any = data.train
    if isinstance(split, ArraySplit):
        drawn = np.random.default_rng(seed).permutation(len(split))[:rows]
        for part in np.array_split(drawn, max(1, -(-len(drawn) // size))):
            yield split.take(np.sort(part)).x
        return
    seen = 0
    for x, _, _ in split.batches(size):
        yield x
        seen += len(keras.tree.flatten(x)[0])
        if seen >= rows:
            return


@contextlib.contextmanager
def _watched(layers: list[Any], sums: dict[int, list[Any]]) -> Iterator[None]:
    """Inside, the layers normalise by their batches, and sums of count, mean and mean square gather under their ids."""
    before = [(layer, vars(layer).get("call"), layer.momentum, [v.numpy() for v in layer.non_trainable_variables]) for layer in layers]
    try:
        for layer in layers:
            # Without momentum the moving statistics after a call are those of its batch.
            layer.momentum = 0.0
            vars(layer)["call"] = functools.partial(_call, layer, layer.call, sums)
        yield
    finally:
        for layer, own, momentum, values in before:
            layer.momentum = momentum
            for variable, value in zip(layer.non_trainable_variables, values, strict=True):
                variable.assign(value)
            if own is None:
                vars(layer).pop("call", None)
            else:
                vars(layer)["call"] = own


def _call(layer: Any, original: Any, sums: dict[int, list[Any]], inputs: Any, training: Any = None, mask: Any = None) -> Any:
    outputs = original(inputs, training=True, mask=mask)
    unmasked = np.prod(inputs.shape) / inputs.shape[layer.axis]
    count = float(unmasked) if mask is None else float(keras.ops.sum(keras.ops.cast(mask, "float32")))
    mean = layer.moving_mean.numpy().astype("float64")
    square = layer.moving_variance.numpy().astype("float64") + mean**2
    entry = sums.setdefault(id(layer), [0.0, 0.0, 0.0])
    for place, value in enumerate((count, count * mean, count * square)):
        entry[place] = entry[place] + value
    return outputs
