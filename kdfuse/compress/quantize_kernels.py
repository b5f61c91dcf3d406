"""The values that a quantized file leaves a Keras model's kernels, as floats."""

from typing import Any

import keras
import numpy as np

from kdfuse.export.lite_weights import stored_weights

ALIKE = 0.999
"""The share of integers that must be those of the file; the rest are ties that were rounded the other way."""


def write_back(model: keras.Model, data: bytes) -> tuple[list[str], list[str]]:
    """Give the kernels of Dense, convolutions and depthwise convolutions the values that the file has for them.

    A file rounds w / s for each output channel, s the channel's largest |w| over 127 (7 for 4 bits). A BatchNorm that was folded into
    the kernel scales whole channels, which leaves these integers as they are but for the sign. A kernel whose integers the file has
    becomes s times them.

    Args:
        model: its kernels are changed.
        data: a file made from it.

    Returns:
        Names of the layers whose kernels were changed, and of those with a kernel that were not.
    """
    stored = stored_weights(data)
    changed, left = [], []
    for layer in model._flatten_layers(include_self=False):
        kernel = _kernel(layer)
        if kernel is None:
            if not list(layer._flatten_layers(include_self=False)) and any(len(weight.shape) > 1 for weight in layer.weights):
                left.append(layer.name)
            continue
        weights = np.asarray(keras.ops.convert_to_numpy(kernel), "float32")
        rows = _rows(weights, isinstance(layer, keras.layers.DepthwiseConv2D))
        for bits, integers in stored:
            scale = np.abs(rows).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
            rounded = np.round(rows / np.where(scale == 0, 1, scale))
            theirs = _file_rows(integers, layer)
            if theirs.shape == rows.shape and (np.abs(theirs) == np.abs(rounded)).mean() >= ALIKE:
                values = np.copysign(np.abs(theirs), rounded) * scale
                kernel.assign(_unrows(values, weights.shape, isinstance(layer, keras.layers.DepthwiseConv2D)))
                changed.append(layer.name)
                break
        else:
            left.append(layer.name)
    return changed, left


def halve(model: keras.Model) -> list[str]:
    """Round every weight to float16 and keep it as float32, as a float16 file does.

    Returns:
        Paths of the weights that stay as they are, for they have numbers beyond those of float16.
    """
    left = []
    for weight in model.weights:
        if keras.backend.standardize_dtype(weight.dtype) == "float32":
            values = np.asarray(keras.ops.convert_to_numpy(weight))
            if values.size and np.abs(values).max() > np.finfo("float16").max:
                left.append(weight.path)
            else:
                weight.assign(values.astype("float16").astype("float32"))
    return left


def _kernel(layer: Any) -> Any:
    kinds = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return layer.kernel if type(layer) in kinds and layer.built else None


def _rows(weights: np.ndarray, depthwise: bool) -> np.ndarray:
    """A row for each output channel, in the file's order."""
    if depthwise:
        return weights.reshape(-1, weights.shape[-2] * weights.shape[-1]).T
    return np.moveaxis(weights, -1, 0).reshape(weights.shape[-1], -1)


def _unrows(rows: np.ndarray, shape: tuple[int, ...], depthwise: bool) -> np.ndarray:
    if depthwise:
        return rows.T.reshape(shape)
    return np.moveaxis(rows.reshape(shape[-1], *shape[:-1]), 0, -1)


def _file_rows(integers: np.ndarray, layer: Any) -> np.ndarray:
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return integers.reshape(-1, integers.shape[-1]).T
    return integers.reshape(integers.shape[0], -1)
