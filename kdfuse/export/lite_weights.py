"""The quantized weights of a `.tflite` file, as the integers that it stores."""

import numpy as np

from kdfuse.export.lite_file import read_file

KINDS = {"int8": 8, "int4": 4}


def stored_weights(data: bytes) -> list[tuple[int, np.ndarray]]:
    """For each quantized weight of two axes or more: its bits, and its integers in the file's layout."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    found = []
    for tensor in read_file(data).tensors:
        if tensor.constant and tensor.quantized and len(tensor.shape) > 1 and tensor.dtype in KINDS:
            raw = np.asarray(model.Buffers(graph.Tensors(tensor.place).Buffer()).DataAsNumpy())
            if raw.ndim:
                bits = KINDS[tensor.dtype]
                values = raw.view(np.int8) if bits == 8 else _nibbles(raw)
                found.append((bits, values[: int(np.prod(tensor.shape))].reshape(tensor.shape)))
    return found


def _nibbles(raw: np.ndarray) -> np.ndarray:
    """Two numbers of 4 bits a byte, the low one first."""
    both = np.stack([raw & 15, raw >> 4], axis=-1).reshape(-1).astype(np.int8)
    return np.where(both > 7, both - 16, both).astype(np.int8)
