"""ONNX: a model as a `.onnx` file, and such a file as a callable. Needs `pip install "kdfuse[onnx]"`."""

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from kdfuse.export.quiet import quiet
from kdfuse.export.signature import in_float32, match_inputs, restore_outputs, trace
from kdfuse.home import write_atomic

OPSET = 17


def save_onnx(model: Any, path: str | os.PathLike[str], *, example: Any = None) -> Path:
    """Write a model, in inference mode, to an ONNX file in one step; a failure leaves an earlier file as it was.

    Args:
        model: a Keras 3 or tf_keras model; it is only read.
        path: must end in `.onnx`; folders are made.
        example: a batch of inputs, for a subclassed model, which does not say what it takes.

    Returns:
        The path. Inputs and outputs have the names that `kdfuse.export.signature.trace` gives, in the model's order.

    Raises:
        ImportError: the extra `onnx` is not installed.
        ValueError: another ending, or a model that cannot be converted.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise ValueError(f"`path`: expected a name that ends in .onnx. Received: {target.name!r}. Give {target.stem + '.onnx'!r}.")
    convert = guest("tf2onnx.convert")
    traced = trace(in_float32(model, example), example)
    function = traced.module.function
    try:
        with quiet():
            proto, _ = convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    except Exception as error:
        raise ValueError(
            f"`model`: {getattr(model, 'name', model)!r} cannot be converted to ONNX: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}. Write a SavedModel or .keras file instead."
        ) from error
    for listed, names in ((proto.graph.input, traced.inputs), (proto.graph.output, traced.outputs)):
        by_name = {one.name: one for one in listed}
        if set(names) == set(by_name):
            ordered = [type(by_name[name]).FromString(by_name[name].SerializeToString()) for name in names]
            del listed[:]
            listed.extend(ordered)
    return write_atomic(target, proto.SerializeToString())


class OnnxModel:
    """An ONNX file as a callable: one batch in, NumPy out, in the structure of the model it was made from.

    Args:
        path: the file.
        threads: threads of the session, on the CPU.

    Attributes:
        inputs: names of the inputs, in the order of the original model's.
        outputs: names of the outputs.

    Raises:
        ImportError: the extra `onnx` is not installed.
        FileNotFoundError: there is no such file.
        ValueError: it is empty or damaged, or onnxruntime lacks one of its operations.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 1) -> None:
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"`path`: there is no file {file}.")
        runtime = guest("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        try:
            self._session = runtime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ValueError(
                f"`path`: {file} is no ONNX model, is damaged, or has an operation that onnxruntime lacks ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}). Copy it again from its source, or write another format."
            ) from error
        self._types = {one.name: _dtype(one.type) for one in self._session.get_inputs()}
        self.inputs = list(self._types)
        self.outputs = [one.name for one in self._session.get_outputs()]

    def __call__(self, inputs: Any) -> Any:
        """The outputs of one batch, as NumPy."""
        arrays = match_inputs(inputs, self.inputs)
        given = {name: np.asarray(array, self._types[name]) for name, array in zip(self.inputs, arrays, strict=True)}
        try:
            found = self._session.run(self.outputs, given)
        except Exception as error:
            raise ValueError(f"`inputs`: the ONNX model cannot run on them: {' '.join(str(error).split())[:300]}") from error
        return restore_outputs(dict(zip(self.outputs, found, strict=True)))


def guest(name: str) -> Any:
    """A module of the extra `onnx`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        with quiet():
            return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(f'ONNX files need the package {package}. Install it: pip install "kdfuse[onnx]"', name=package) from error


def _dtype(text: str) -> str:
    name = text.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
