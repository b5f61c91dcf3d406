"""LiteRT: a model as the bytes of a `.tflite` file, quantized or not."""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.export.lite_order import in_order
from kdfuse.export.lite_trust import seal
from kdfuse.export.quiet import quiet
from kdfuse.export.signature import Traced, in_float32, match_inputs, trace
from kdfuse.home import write_atomic
from kdfuse.settings import choose

KINDS = ("none", "dynamic", "float16", "int8")


def to_litert(
    model: Any,
    *,
    quantize: str | None = None,
    representative: Any = None,
    example: Any = None,
    batch_size: int | None = None,
    sparse: bool = False,
    integer_io: bool = False,
    select_tf_ops: bool = False,
) -> bytes:
    """Convert a model with TensorFlow's own converter. The model is left as it was, and nothing is printed.

    Args:
        model: a Keras 3 or tf_keras model. One that quantization-aware training annotated becomes integer by `quantize="dynamic"`.
        quantize: None or `"none"` for float32; `"dynamic"` for int8 weights with float32 activations; `"float16"` for float16
            weights; `"int8"` for weights and activations in int8, where an operation has such a form.
        representative: inputs that int8 ranges are found with: a batch `[rows, ...]` in the structure of the model's inputs, or an
            iterable of batches. Some hundred rows of the training data are enough.
        example: a batch of inputs, for a subclassed model, which does not say what it takes.
        batch_size: fix the rows of a batch; by default any number, or 1 where the operations cannot do otherwise (recurrent layers).
        sparse: store weights of mostly zeros as sparse tensors; faster only for blocks of zeros in Dense layers.
        integer_io: with `"int8"`: the file's own inputs and outputs are int8 as well. `LiteModel` converts them by itself.
        select_tf_ops: allow operations of TensorFlow that LiteRT lacks. Such a file needs LiteRT's Flex delegate, which apps link in
            and the Python package does not have: `LiteModel` does not run it.

    Returns:
        The bytes of the file, sealed with a checksum. Inputs and outputs have the names that `kdfuse.export.signature.trace` gives.

    Raises:
        ValueError: int8 without representative rows or with NaN among them, or a model that cannot be converted, with the way on.
    """
    kind = choose("quantize", quantize or "none", KINDS)
    if kind == "int8" and representative is None:
        raise ValueError(
            "`representative`: expected inputs of some hundred training rows for quantize='int8', to find the range of every activation. "
            "Received: None. Give for example data.example(256), or use quantize='dynamic', which needs none."
        )
    if integer_io and kind != "int8":
        raise ValueError(f"`integer_io`: expected False unless quantize='int8'. Received: True with quantize={quantize!r}.")
    rows = list(_rows(representative)) if kind == "int8" else []
    settings: dict[str, Any] = {"kind": kind, "sparse": sparse, "integer_io": integer_io, "select_tf_ops": select_tf_ops}
    original, model = model, in_float32(model, example)
    problems: list[Exception] = []
    for size in [batch_size] if batch_size is not None else [None, 1]:
        try:
            traced = trace(model, example, size)
            if kind == "int8":
                _refuse_loops(traced, model)
            return _convert(traced, [match_inputs(row, traced.inputs) for row in rows], **settings)
        except Exception as error:
            problems.append(error)
            if not _open_batch(error):
                break
    raise _explain(original, problems[-1])


def save_litert(data: bytes, path: str | os.PathLike[str]) -> Path:
    """Write the bytes that `to_litert` gave to a file in one step; a failure leaves an earlier file as it was.

    Args:
        data: the bytes.
        path: must end in `.tflite`; folders are made.

    Raises:
        ValueError: another ending, or bytes of something else.
    """
    target = Path(path)
    if target.suffix != ".tflite":
        raise ValueError(f"`path`: expected a name that ends in .tflite. Received: {target.name!r}. Give {target.stem + '.tflite'!r}.")
    if bytes(data[4:8]) != b"TFL3":
        raise ValueError("`data`: expected the bytes of a LiteRT model, as `to_litert` gives them. Received: something else.")
    return write_atomic(target, bytes(data))


def _convert(traced: Traced, rows: list[list[np.ndarray]], *, kind: str, sparse: bool, integer_io: bool, select_tf_ops: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder, quiet():
        tf.saved_model.save(traced.module, folder, signatures=traced.function)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        optimizations = [] if kind == "none" else [tf.lite.Optimize.DEFAULT]
        converter.optimizations = [*optimizations, *([tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if sparse else [])]
        allowed = [tf.lite.OpsSet.TFLITE_BUILTINS, *([tf.lite.OpsSet.SELECT_TF_OPS] if select_tf_ops else [])]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int8":
            types = dict(zip(traced.inputs, (spec.dtype.as_numpy_dtype for spec in _specs(traced)), strict=True))
            converter.representative_dataset = lambda: (
                {name: np.asarray(value, types[name]) for name, value in zip(traced.inputs, row, strict=True)} for row in rows
            )
            allowed.insert(0, tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
            if integer_io:
                converter.inference_input_type = converter.inference_output_type = tf.int8
        converter.target_spec.supported_ops = allowed
        data = bytes(converter.convert())
    return seal(in_order(data, traced.inputs, traced.outputs))


def _refuse_loops(traced: Traced, model: Any) -> None:
    # The converter's calibration does not fail on a loop: it ends the process.
    graph = traced.function.graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    found = sorted({node.op for node in nodes} & {"While", "StatelessWhile", "If", "StatelessIf"})
    if found:
        raise ValueError(
            f"`quantize`: expected a model without loops and branches for 'int8'. Received: {getattr(model, 'name', model)!r}, which holds "
            f"{found}. Recurrent layers loop: build them with unroll=True (the weights are the same), or use quantize='dynamic'."
        )


def _specs(traced: Traced) -> list[Any]:
    return list(keras.tree.flatten(traced.function.structured_input_signature[0]))


def _rows(representative: Any) -> Iterator[Any]:
    """One row at a time, as batches of one, of a batch or an iterable of batches."""
    one = isinstance(representative, np.ndarray | dict | list | tuple) or hasattr(representative, "shape")
    batches: Iterable[Any] = [representative] if one else representative
    count = 0
    for batch in batches:
        arrays = keras.tree.map_structure(np.asarray, batch)
        flat = keras.tree.flatten(arrays)
        lengths = {len(array) for array in flat if array.ndim}
        if not flat or len(lengths) != 1 or any(not array.ndim for array in flat):
            raise ValueError("`representative`: expected arrays with the same number of rows. Received: arrays of other shapes.")
        for array in flat:
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = int(np.argwhere(~np.isfinite(array))[0][0]) + count
                raise ValueError(
                    f"`representative`: expected finite values. Received: NaN or infinity, first in row {bad}. Remove or fill these rows."
                )
        for place in range(len(flat[0])):
            yield keras.tree.map_structure(lambda array, at=place: array[at : at + 1], arrays)
        count += len(flat[0])
    if not count:
        raise ValueError("`representative`: expected at least one row. Received: none.")


def _open_batch(error: Exception) -> bool:
    """Whether a fixed batch size may help: recurrent layers keep lists of tensors whose shape must be known."""
    text = str(error.__cause__ or error)
    return any(word in text for word in ("TensorList", "tensor list", "element_shape", "requires to be static", "dynamic shape"))


def _without_places(text: str) -> str:
    """A message of the converter with the name of the operation in place of the calls that led to it."""
    place = re.search(r'"([^"@]+)@', text)
    bare = re.sub(r"loc\(.*?\)+: ", "", text, count=1)
    return f"{place[1]}: {bare}" if place and bare != text else text


def _explain(model: Any, error: Exception) -> Exception:
    text = str(error)
    if isinstance(error, ValueError) and text.startswith("`"):
        return error
    name = getattr(model, "name", type(model).__name__)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = _without_places(" ".join(lines))[:300]
    missing = "Flex" in text or "SELECT_TF_OPS" in text or "neither a custom op nor a flex op" in text
    way = (
        "Replace that operation, give `select_tf_ops=True` (the file then needs LiteRT's Flex delegate), or write a "
        "SavedModel or .keras file."
        if missing
        else "Write a SavedModel or .keras file, or build the model of other operations."
    )
    raised = ValueError(f"`model`: {name!r} cannot be converted to LiteRT: {reason}. {way}")
    raised.__cause__ = error
    return raised
