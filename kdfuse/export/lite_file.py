"""What a `.tflite` file holds, read without running it: tensors, operations, signature; a damaged file is one clear error."""

import functools
import os
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

IDENTIFIER = b"TFL3"
DAMAGE = (struct.error, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
MEND = "Copy it again from its source, or convert the model again."


class Tensor(NamedTuple):
    """A tensor of the file.

    Attributes:
        name: its own, or for inputs and outputs that of the signature.
        place: its place in the main graph.
        shape: with -1 where a size is open.
        dtype: as the file names it in lower case: `"float32"`, `"int8"`, `"int4"`.
        constant: whether the file holds its values.
        quantized: whether it has a scale.
        variable: whether it keeps its value from one call to the next.
    """

    name: str
    place: int
    shape: tuple[int, ...]
    dtype: str
    constant: bool
    quantized: bool
    variable: bool


class Operation(NamedTuple):
    """An operation: its name as in LiteRT's schema, and the tensors it reads and writes."""

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class LiteFile(NamedTuple):
    """The structure of a file.

    Attributes:
        operations: of all graphs, the main one first.
        tensors: of the main graph.
        inputs: in the order of the original model's, named by the signature where there is one.
        outputs: in the order of the signature, else of the file.
    """

    operations: list[Operation]
    tensors: list[Tensor]
    inputs: list[Tensor]
    outputs: list[Tensor]

    @property
    def integer_share(self) -> float | None:
        """The share of operations that compute in integers, in [0, 1]; None where there is none to count.

        An operation counts that reads or writes an activation (a tensor without stored values) in floating point or a quantized one.
        It computes in integers if no such tensor is in floating point. Weights do not matter: with float activations and int8
        weights (`dynamic`) it counts as float. Left out are QUANTIZE and DEQUANTIZE, which only convert, and the arithmetic of
        shapes and indices.
        """
        counted = [kind for operation in self.operations if (kind := _arithmetic(operation)) is not None]
        return sum(kind == "integer" for kind in counted) / len(counted) if counted else None


def read_source(source: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """The bytes of a file or the bytes given, and how errors call them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, too short, or not a LiteRT model.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data, name = bytes(source), "the bytes given"
    else:
        path = Path(source)
        if path.is_dir():
            raise ValueError(f"`source`: expected a .tflite file. Received: {path}, which is a folder. Give the file itself.")
        if not path.is_file():
            raise FileNotFoundError(f"`source`: there is no file {path}.")
        data, name = path.read_bytes(), str(path)
    if not data:
        raise ValueError(f"`source`: {name}: expected a LiteRT model. Received: an empty file. Convert the model again.")
    if data[4:8] != IDENTIFIER:
        raise ValueError(f"`source`: {name}: expected a LiteRT model ('TFL3' in its bytes 4 to 8). Received: {data[4:8]!r}. {MEND}")
    return data, name


def read_file(data: bytes, name: str = "the bytes given") -> LiteFile:
    """The structure of a file, every part of it visited, so that a truncated or damaged one is found before it runs.

    Args:
        data: the whole file.
        name: how errors call it.

    Raises:
        ValueError: an offset, a size or a number in it leads nowhere.
    """
    try:
        return _read(data)
    except (
        struct.error,
        IndexError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
    ) as error:
        raise ValueError(f"`source`: {name}: the LiteRT model is truncated or damaged ({type(error).__name__}: {error}). {MEND}") from error


def _read(data: bytes) -> LiteFile:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    size = len(data)
    lengths = [_buffer(model.Buffers(place), size) for place in range(_count(model.BuffersLength(), size))]
    codes = [model.OperatorCodes(place) for place in range(_count(model.OperatorCodesLength(), size))]
    called = [_operation_names()[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    graphs = [model.Subgraphs(place) for place in range(_count(model.SubgraphsLength(), size))]
    if not graphs:
        raise ValueError("it has no graph")
    operations: list[Operation] = []
    main: list[Tensor] = []
    for place, graph in enumerate(graphs):
        tensors = [_tensor(graph.Tensors(at), at, lengths, size) for at in range(_count(graph.TensorsLength(), size))]
        main = tensors if place == 0 else main
        for at in range(_count(graph.OperatorsLength(), size)):
            operator = graph.Operators(at)
            ends = [[_at(tensors, int(index)) for index in _vector(part, size) if index != -1]
                    for part in (operator.InputsAsNumpy(), operator.OutputsAsNumpy())]  # fmt: skip
            operations.append(Operation(_at(called, operator.OpcodeIndex()), *ends))
    names_in, names_out = _signature(model)
    inputs = [_at(main, int(index)) for index in _vector(graphs[0].InputsAsNumpy(), size)]
    outputs = [_at(main, int(index)) for index in _vector(graphs[0].OutputsAsNumpy(), size)]
    if not outputs:
        raise ValueError("it has no outputs")
    named_in = {index: name for name, index in names_in}
    inputs = [tensor._replace(name=named_in.get(tensor.place, tensor.name)) for tensor in inputs]
    # By the signature, as the same tensor may be there under two names.
    outputs = [_at(main, index)._replace(name=name) for name, index in names_out] or outputs
    return LiteFile(operations, main, inputs, outputs)


def _tensor(tensor: Any, index: int, lengths: list[int], size: int) -> Tensor:
    shape = [int(one) for one in _vector(tensor.ShapeAsNumpy(), size)]
    signature = [int(one) for one in _vector(tensor.ShapeSignatureAsNumpy(), size)]
    if min(shape, default=1) < 0 or (signature and len(signature) != len(shape)):
        raise ValueError(f"tensor {index} has the shape {shape}")
    dtype, bits = _types()[tensor.Type()]
    stored = _at(lengths, tensor.Buffer())
    if stored and bits and tensor.Sparsity() is None and stored < (int(np.prod(shape, dtype=object)) * bits) // 8:
        raise ValueError(f"tensor {index} of shape {shape} has {stored} bytes")
    quantization = tensor.Quantization()
    scales = _count(quantization.ScaleLength(), size) if quantization is not None else 0
    if scales and not np.isfinite(quantization.ScaleAsNumpy()).all():
        raise ValueError(f"tensor {index} has a scale that is not finite")
    if scales > 1 and (not 0 <= quantization.QuantizedDimension() < len(shape) or shape[quantization.QuantizedDimension()] != scales):
        raise ValueError(f"tensor {index} of shape {shape} has {scales} scales")
    name = (tensor.Name() or b"").decode()
    return Tensor(name, index, tuple(signature or shape), dtype, stored > 0, scales > 0, bool(tensor.IsVariable()))


def _signature(model: Any) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Names and tensors of the inputs and of the outputs; empty without a signature."""
    if not model.SignatureDefsLength():
        return [], []
    one = model.SignatureDefs(0)
    ends = ([one.Inputs(at) for at in range(one.InputsLength())], [one.Outputs(at) for at in range(one.OutputsLength())])
    inputs, outputs = ([(part.Name().decode(), int(part.TensorIndex())) for part in parts] for parts in ends)
    return inputs, outputs


def _buffer(buffer: Any, size: int) -> int:
    # A file beyond 2 GB keeps its data behind the structure.
    if buffer.Offset() > 1:
        if buffer.Offset() + buffer.Size() > size:
            raise ValueError("a buffer ends beyond the file")
        return int(buffer.Size())
    return len(_vector(buffer.DataAsNumpy(), size))


def _vector(found: Any, size: int) -> Any:
    return () if isinstance(found, int) else found


def _count(number: int, size: int) -> int:
    if not 0 <= number <= size:
        raise ValueError(f"a list of {number} items in {size} bytes")
    return number


def _at(items: list[Any], index: int) -> Any:
    if not 0 <= index < len(items):
        raise ValueError(f"item {index} of {len(items)}")
    return items[index]


def _arithmetic(operation: Operation) -> str | None:
    if operation.name in ("QUANTIZE", "DEQUANTIZE", "SHAPE", "RANK"):
        return None
    ends = [tensor for tensor in (*operation.inputs, *operation.outputs) if not tensor.constant]
    if any(tensor.dtype in ("float16", "float32", "bfloat16") for tensor in ends):
        return "float"
    return "integer" if any(tensor.quantized for tensor in ends) else None


@functools.cache
def _operation_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


@functools.cache
def _types() -> dict[int, tuple[str, int]]:
    """Of each type its name and its bits; 0 bits where they are not told by its name."""
    from ai_edge_litert import schema_py_generated as schema

    found = {}
    for name, value in vars(schema.TensorType).items():
        if isinstance(value, int):
            digits = re.sub(r"^(float|bfloat|int|uint)(?=\d+$)", "", name.lower())
            found[value] = (name.lower(), int(digits) if digits.isdigit() else 0)
    return found
