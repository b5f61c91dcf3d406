"""Quantization of a float `.tflite` file operation by operation, by Google's ai-edge-quantizer: bytes in, bytes out."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from kdfuse.export.lite_file import Operation, read_file
from kdfuse.export.lite_order import in_order
from kdfuse.export.lite_trust import seal, unsealed
from kdfuse.export.quiet import quiet
from kdfuse.export.signature import match_inputs

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
FOUR_BITS = ("CONV_2D", "FULLY_CONNECTED")
KEY, ROWS = "serving_default", 32


def weighted_operations(data: bytes) -> list[Operation]:
    """The operations of a float file whose weights can be quantized one by one, in order; each by the name of its output."""
    return [one for one in read_file(data).operations if one.name in WEIGHTED and any(part.constant and len(part.shape) > 1
            for part in one.inputs)]  # fmt: skip


def calibrate(data: bytes, inputs: Any) -> Any:
    """The least and the greatest value of every activation of a float file over all rows of a batch of inputs.

    Parts of the batch are merged here: the quantizer's own way is a moving average, which clips what single rows reach.
    """
    tensors = read_file(data).inputs
    arrays = [np.asarray(array, tensor.dtype) for tensor, array in zip(tensors, match_inputs(inputs, [one.name for one in tensors]),
              strict=True)]  # fmt: skip
    size = 1 if any(tensor.shape[0] != -1 for tensor in tensors) else ROWS
    merged: dict[str, Any] = {}
    for start in range(0, len(arrays[0]), size):
        part = {tensor.name: array[start : start + size] for tensor, array in zip(tensors, arrays, strict=True)}
        with quiet():
            one = _quantizer(data)
            _set(one, ".*", 8)
            found = one.calibrate({KEY: [part]})
        for name, values in found.items():
            known = merged.setdefault(name, dict(values))
            known["min"], known["max"] = np.minimum(known["min"], values["min"]), np.maximum(known["max"], values["max"])
    return merged


def requantize(data: bytes, bits: Mapping[str, int], ranges: Any) -> bytes:
    """A float file with int8 activations, and the weights of each operation in so many bits.

    Args:
        data: a float file with a signature.
        bits: 4, 8, or 32 for an operation that stays float, by the name of its output; 8 for those that are not named.
        ranges: what `calibrate` found.

    Raises:
        ValueError: the quantizer refuses the model; the message says why.
    """
    file = read_file(data)
    kinds = {one.outputs[0].name: one.name for one in weighted_operations(data)}
    try:
        with quiet():
            one = _quantizer(data)
            _set(one, ".*", 8)
            _set(one, ".*", 32, "INPUT")  # the file takes and gives floats
            _set(one, ".*", 32, "OUTPUT")
            for name, width in bits.items():
                if width != 8:
                    _set(one, re.escape(name), width, kinds[name])
            found = bytes(one.quantize(ranges).quantized_model)
    except Exception as error:
        raise ValueError(
            f"`data`: ai-edge-quantizer cannot quantize the model: {type(error).__name__}: {' '.join(str(error).split())[:300]}. "
            "Use kind='int8' or kind='dynamic', which TensorFlow's own converter makes."
        ) from error
    return seal(in_order(found, [tensor.name for tensor in file.inputs], [tensor.name for tensor in file.outputs]))


def _quantizer(data: bytes) -> Any:
    from ai_edge_quantizer import quantizer

    return quantizer.Quantizer(bytearray(unsealed(data)))


def _set(quantizer: Any, regex: str, bits: int, operation: str = "*") -> None:
    from ai_edge_quantizer import qtyping

    name = qtyping.TFLOperationName.ALL_SUPPORTED if operation == "*" else qtyping.TFLOperationName(operation)
    if bits == 32:
        quantizer.update_quantization_recipe(regex, name, algorithm_key="no_quantize")
    else:
        quantizer.add_static_config(regex, name, 8, bits)
