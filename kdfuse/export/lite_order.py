"""The order of a file's inputs and outputs, put right in place.

The converter lists them in an order of its own, which differs from one conversion to the next.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdfuse.export.lite_file import read_file
from kdfuse.export.lite_trust import is_sealed, seal, unsealed

INPUTS, OUTPUTS = 6, 8  # places of the two lists in the schema's table of a graph


def in_order(data: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The same file with its inputs and outputs listed in the order given.

    Args:
        data: a file with a signature.
        inputs: names of all inputs.
        outputs: names of all outputs.

    Raises:
        ValueError: the signature has other names.
    """
    from ai_edge_litert import schema_py_generated as schema

    file = read_file(data)
    changed = bytearray(unsealed(data))
    table = schema.Model.GetRootAs(changed, 0).Subgraphs(0)._tab
    for place, names, tensors in ((INPUTS, inputs, file.inputs), (OUTPUTS, outputs, file.outputs)):
        at = {tensor.name: tensor.place for tensor in tensors}
        if set(at) != set(names):
            raise ValueError(f"`data`: expected the names {list(names)} in the file's signature. Received: {sorted(at)}.")
        listed = _vector(changed, table, place)
        rank = {tensor: position for position, tensor in reversed(list(enumerate(at[name] for name in names)))}
        listed[:] = sorted(listed.tolist(), key=lambda tensor: rank[tensor])
    return seal(bytes(changed)) if is_sealed(data) else bytes(changed)


def _vector(data: bytearray, table: Any, place: int) -> np.ndarray:
    offset = table.Offset(place)
    return np.frombuffer(data, "<i4", table.VectorLen(offset), table.Vector(offset))
