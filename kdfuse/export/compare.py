"""Whether a written file gives what the model gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

FLOAT_TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2


class Difference(NamedTuple):
    """How far a file's outputs are from the model's, over all outputs.

    Attributes:
        largest: the largest difference of two numbers, as a share of the output's largest number (at least 1).
        explained: the least R2 of an output: 1 where both are equal, 0 where the file is no better than a constant.
        agreement: the share of rows with the same largest entry, of outputs `[rows, ..., classes]`; None without such an output.
    """

    largest: float
    explained: float
    agreement: float | None


def compare(expected: Any, found: Any) -> Difference:
    """Compare two structures of outputs, NumPy or tensors, in the same order.

    Raises:
        ValueError: NaN or infinity in what was found but not in what was expected, or other shapes.
    """
    pairs = list(zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True))
    largest, explained, shares = 0.0, 1.0, []
    for expected_one, found_one in pairs:
        one, other = np.asarray(expected_one, "float64"), np.asarray(found_one, "float64")
        if one.shape != other.shape:
            raise ValueError(f"The file gives the shape {other.shape} where the model gives {one.shape}.")
        if not np.isfinite(other).all() and np.isfinite(one).all():
            raise ValueError("The file gives NaN or infinity where the model does not.")
        error = one - other
        largest = max(largest, float(np.abs(error).max(initial=0.0) / max(1.0, np.abs(one).max(initial=0.0))))
        spread = float(((one - one.mean(axis=0)) ** 2).sum())
        if spread > 0:
            explained = min(explained, 1.0 - float((error**2).sum()) / spread)
        if one.ndim > 1 and one.shape[-1] > 1:
            shares.append(float((one.argmax(axis=-1) == other.argmax(axis=-1)).mean()))
    return Difference(largest, explained, float(np.mean(shares)) if shares else None)


def check(expected: Any, function: Callable[[Any], Any], inputs: Any, quantize: str | None, tolerance: float | None = None) -> Difference:
    """Run a file that came back as `function`, and raise unless it gives what the model gave.

    Args:
        expected: the outputs of the model.
        function: the file.
        inputs: what the model was given.
        quantize: how the file was quantized: None, `"float16"`, `"dynamic"`, `"int8"`.
        tolerance: the largest difference allowed, as `Difference.largest` counts it; by default 1e-4 for float32 and 2e-2 for float16.
            For integer weights the outputs must only explain something of the model's (R2 above 0), unless it is given.

    Raises:
        ValueError: the file gives something else, NaN, or nothing that has to do with the model's outputs.
    """
    difference = compare(expected, function(inputs))
    default = {None: FLOAT_TOLERANCE, "none": FLOAT_TOLERANCE, "float16": HALF_TOLERANCE}.get(quantize)
    limit = tolerance if tolerance is not None else default
    if limit is not None and not difference.largest <= limit:
        raise ValueError(
            f"The file differs from the model by {difference.largest:.2g} on real inputs; expected at most {limit:g} "
            f"(agreement {_share(difference.agreement)}). Nothing was written."
        )
    if limit is None and difference.explained <= 0:
        raise ValueError(
            f"The quantized file collapsed: its outputs have nothing to do with the model's (R2 {difference.explained:.2f}, agreement "
            f"{_share(difference.agreement)}). Give rows of the real data as `data`, or another `quantize`. Nothing was written."
        )
    return difference


def _share(agreement: float | None) -> str:
    return "unknown" if agreement is None else f"{agreement:.1%}"
