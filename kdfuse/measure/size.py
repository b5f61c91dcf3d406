"""Size: parameters, and bytes on disk."""

import gzip
import io
import math
import tempfile
import warnings
from pathlib import Path

import keras

from kdfuse.graph.copy import copy_model
from kdfuse.measure.coding import coded


def size(model: keras.Model) -> dict[str, float]:
    """How large `model` is; it is left as it was.

    Args:
        model: a built model.

    Returns:
        `size/parameters` (all weights, trainable or not), `size/nonzero` (those that are not 0), `size/unique` (distinct values over
        all kernels) and `size/huffman_bytes` (as Deep Compression counts: see `kdfuse.measure.coding`), `size/keras_bytes` (a
        `.keras` file without optimizer state) and `size/gzip_bytes` (that file compressed; it holds a date, so it varies
        by a few bytes). The last two are missing for a model that Keras cannot save.
    """
    weights = model.weights
    found = {
        "size/parameters": float(sum(math.prod(weight.shape) for weight in weights)),
        "size/nonzero": float(sum(int(keras.ops.count_nonzero(weight)) for weight in weights)),
    }
    shared = coded(model)
    found |= {"size/unique": float(shared.unique), "size/huffman_bytes": float(shared.bytes)}
    written = _file(model)
    if written is not None:
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as stream:
            stream.write(written)
        found |= {"size/keras_bytes": float(len(written)), "size/gzip_bytes": float(packed.tell())}
    return found


def _file(model: keras.Model) -> bytes | None:
    """The bytes of a `.keras` file of the bare model, or None where it cannot be saved."""
    compiled = any(getattr(part, "compiled", False) for part in model._flatten_layers())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.keras"
        try:
            (copy_model(model) if compiled else model).save(path)
        except (ValueError, TypeError, NotImplementedError):
            return None
        return path.read_bytes()
