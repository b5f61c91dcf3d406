"""Calibration rows: a few training rows on which a model is watched."""

from collections.abc import Iterator

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.splits import ArraySplit, Batch

BATCH = 64


def calibration(data: Data, rows: int, seed: int = 0, size: int = BATCH) -> Iterator[Batch]:
    """Batches `(x, y, sample_weight or None)` of up to `rows` training rows: drawn without repeats from arrays, the first of a stream.

    Args:
        data: its training split is read.
        rows: at least 1; fewer come where there are fewer.
        seed: of the draw; the batches are a function of it.
        size: rows of a batch, at most; the batches of a stream are its own.
    """
    split = data.train
    if isinstance(split, ArraySplit):
        drawn = np.random.default_rng(seed).permutation(len(split))[:rows]
        for part in np.array_split(drawn, max(1, -(-len(drawn) // size))):
            yield next(split.take(np.sort(part)).batches(size))
        return
    seen = 0
    for batch in split.batches(size):
        yield batch
        seen += len(keras.tree.flatten(batch[0])[0])
        if seen >= rows:
            return


def tensors(structure: object) -> object:
    """The arrays of a structure as tensors, as a model takes them."""
    return keras.tree.map_structure(keras.ops.convert_to_tensor, structure)
