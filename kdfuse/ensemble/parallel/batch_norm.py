"""BatchNorm statistics of averaged weights: none of the models that went into the mean has seen what its layers see."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.splits import ArraySplit

ROWS, BATCH = 8192, 256


def reestimate(model: keras.Model, data: Data, rows: int = ROWS, seed: int = 0) -> int:
    """Measure the statistics of the BatchNorm layers anew, in one pass over training rows (Izmailov et al., 2018, section 3.2).

    Every BatchNorm layer normalises by its batch meanwhile, so those behind it see what they would in training; all else, dropout
    for one, is in inference mode. The moving mean and variance become those of all rows together. Frozen layers keep theirs.

    Args:
        model: a built private copy; the moving statistics are all that changes.
        data: rows are drawn from its training split; of a stream they are the first ones.
        rows: how many at most.
        seed: of the draw.

    Returns:
        How many layers were measured; 0 where the model has none.
    """
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable]
    sums: dict[int, np.ndarray] = {}
    if not norms:
        return 0
    with contextlib.ExitStack() as stack:
        for layer in norms:
            stack.enter_context(_measuring(layer, sums))
        for x in _batches(data, rows, seed):
            model(keras.tree.map_structure(keras.ops.convert_to_tensor, x), training=False)
    for layer in norms:
        if id(layer) in sums:
            count, first, second = sums[id(layer)]
            layer.moving_mean.assign(first / count)
            layer.moving_variance.assign(np.maximum(second / count - (first / count) ** 2, 0.0))
    return len(sums)


@contextlib.contextmanager
def _measuring(layer: Any, sums: dict[int, np.ndarray]) -> Iterator[None]:
    """Inside, a layer normalises by its batches; count, sum and sum of squares gather under its id."""
    call, own, momentum = layer.call, vars(layer).get("call"), layer.momentum
    before = [keras.ops.convert_to_numpy(variable) for variable in layer.non_trainable_variables]

    def measured(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        outputs = call(inputs, training=True, mask=mask)
        count = np.prod(inputs.shape) / inputs.shape[layer.axis] if mask is None else np.sum(keras.ops.convert_to_numpy(mask))
        mean, variance = (np.asarray(keras.ops.convert_to_numpy(v), "float64") for v in (layer.moving_mean, layer.moving_variance))
        found = np.stack([np.full_like(mean, count), count * mean, count * (variance + mean**2)])
        sums[id(layer)] = sums.get(id(layer), 0.0) + found
        return outputs

    try:
        # Without momentum the moving statistics after a call are those of its batch.
        layer.momentum = 0.0
        vars(layer)["call"] = measured
        yield
    finally:
        layer.momentum = momentum
        vars(layer).pop("call")
        if own is not None:
            vars(layer)["call"] = own
        for variable, value in zip(layer.non_trainable_variables, before, strict=True):
            variable.assign(value)


def _batches(data: Data, rows: int, seed: int) -> Iterator[Any]:
    split: Any = data.train
    if isinstance(split, ArraySplit):
        drawn = np.random.default_rng(seed).permutation(len(split))[:rows]
        for part in np.array_split(drawn, max(1, -(-len(drawn) // BATCH))):  # equal parts: none has a single row
            yield split.take(np.sort(part)).x
        return
    seen = 0
    for x, _, _ in split.batches(BATCH):
        yield x
        seen += len(keras.tree.flatten(x)[0])
        if seen >= rows:
            return
