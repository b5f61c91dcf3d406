"""Export: a model to a file that was read back and compared with the model before it took its place."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.export.compare import Difference, check
from kdfuse.export.keras_file import load_model, save_model
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import save_litert, to_litert
from kdfuse.export.onnx import OnnxModel, save_onnx
from kdfuse.export.saved_model import SavedModel, atomic_folder, save_saved_model
from kdfuse.export.signature import in_float32, input_structure
from kdfuse.home import atomic
from kdfuse.settings import choose

FORMATS = {"litert": ".tflite", "saved_model": "", "onnx": ".onnx", "keras": ".keras"}
CHECK_ROWS, RANGE_ROWS, LOW = 64, 256, 0.9


def export_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    format: str = "auto",
    quantize: str | None = None,
    sparse: bool = False,
    data: Any = None,
    tolerance: float | None = None,
) -> Path:
    """Write a model to a file, read the file back, and compare it with the model on real inputs.

    Args:
        model: a Keras 3 model; it is only read.
        path: `model.tflite`, `model.onnx`, `model.keras`, or a folder for a SavedModel. Folders are made.
        format: `"litert"`, `"onnx"`, `"keras"`, `"saved_model"`; `"auto"` is what the path's ending says.
        quantize: for LiteRT: None, `"dynamic"`, `"float16"` or `"int8"`; int8 needs `data`.
        sparse: for LiteRT: kernels of mostly zeros are stored without their zeros: smaller, and faster where the zeros of a Dense layer
            lie in blocks (`Prune(0.9, pattern=Block(16, 1))`).
        data: a `Data`, or a batch of inputs. The file is compared on rows of the validation split, else of the training split; int8
            ranges come from 256 rows drawn from the training split. Without it, the file is compared on random inputs.
        tolerance: the largest difference allowed, as a share of an output's largest number (at least 1). By default 1e-4; 2e-2 for
            float16. A file with integer weights must only be better than a constant, and a warning tells a low agreement.

    Returns:
        The path. `kdfuse.export.export.load(path)` is the file as a callable.

    Raises:
        ValueError: a wrong ending or setting, a model that cannot be converted, or a file that does not give what the model gives.
            An earlier file at `path` is then as it was, and nothing else is left behind.
        ImportError: ONNX without the extra `onnx`.
    """
    return exported(model, path, format=format, quantize=quantize, sparse=sparse, data=data, tolerance=tolerance)[0]


def exported(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    format: str = "auto",
    quantize: str | None = None,
    sparse: bool = False,
    data: Any = None,
    tolerance: float | None = None,
) -> tuple[Path, Difference]:
    """As `export_model`, and how far the file is from the model."""
    target = Path(path)
    kind = _format(target, format)
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model`: expected a keras.Model of Keras 3. Received: {type(model).__module__}.{type(model).__name__}.")
    if quantize not in (None, "none") and kind != "litert":
        raise ValueError(
            f"`quantize`: expected None for the format {kind!r}. Received: {quantize!r}. Only LiteRT files are quantized here."
        )
    if sparse and kind != "litert":
        raise ValueError(f"`sparse`: expected False for the format {kind!r}. Received: {sparse!r}. Only LiteRT stores kernels sparse.")
    inputs = _inputs(model, data)
    computing = model if kind == "keras" else in_float32(model, inputs)  # a .keras file computes as the model does
    expected = keras.tree.map_structure(_array, computing(inputs, training=False))
    with atomic_folder(target) if kind == "saved_model" else atomic(target) as temporary:
        if kind == "litert":
            rows = data.sample(RANGE_ROWS) if isinstance(data, Data) else data
            if quantize == "int8" and rows is None:
                raise ValueError("`data`: expected a Data or a batch of inputs for quantize='int8', to find ranges with. Received: None.")
            save_litert(to_litert(model, quantize=quantize, representative=rows, example=inputs, sparse=sparse), temporary)
        elif kind == "saved_model":
            save_saved_model(model, temporary, example=inputs)
        elif kind == "onnx":
            save_onnx(model, temporary, example=inputs)
        else:
            save_model(model, temporary)
        try:
            difference = check(expected, load(temporary), inputs, quantize, tolerance)
        except ValueError as error:
            raise ValueError(str(error).replace(str(temporary), str(target))) from error
    if difference.agreement is not None and difference.agreement < LOW:
        warnings.warn(
            f"{target.name} decides as the model does on {difference.agreement:.1%} of {len(keras.tree.flatten(inputs)[0])} rows only.",
            stacklevel=3,
        )
    return target, difference


def load(path: str | os.PathLike[str]) -> Callable[[Any], Any]:
    """A file that `export_model` wrote, as a callable of one batch that gives NumPy arrays.

    Args:
        path: a `.tflite`, `.onnx` or `.keras` file, or the folder of a SavedModel.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another kind.
    """
    kind = _format(Path(path), "auto")
    if kind == "litert":
        return LiteModel(path)
    if kind == "onnx":
        return OnnxModel(path)
    if kind == "saved_model":
        return SavedModel(path)
    model = load_model(path)
    return lambda inputs: keras.tree.map_structure(_array, model(inputs, training=False))


def _format(path: Path, wanted: str) -> str:
    choose("format", wanted, ["auto", *FORMATS])
    by_ending = {ending: name for name, ending in FORMATS.items()}
    if wanted == "auto":
        if path.suffix not in by_ending:
            raise ValueError(
                f"`path`: expected a name that ends in .tflite, .onnx or .keras, or a folder without an ending. Received: {path.name!r}. "
                "Give another name, or say the `format`."
            )
        return by_ending[path.suffix]
    if wanted != "saved_model" and path.suffix != FORMATS[wanted]:
        raise ValueError(f"`path`: expected a name that ends in {FORMATS[wanted]} for the format {wanted!r}. Received: {path.name!r}.")
    return wanted


def _inputs(model: keras.Model, data: Any) -> Any:
    """Some rows to compare on."""
    if isinstance(data, Data):
        return (data.validation or data.train).head(CHECK_ROWS)[0]
    if data is not None:
        return keras.tree.map_structure(lambda value: np.asarray(value)[:CHECK_ROWS], data)
    rng = np.random.default_rng(0)

    def drawn(tensor: Any) -> np.ndarray:
        shape = [size or (4 if place else 8) for place, size in enumerate(tensor.shape)]
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        return np.zeros(shape, dtype) if dtype.startswith(("int", "uint", "bool", "string")) else rng.random(shape).astype(dtype)

    try:
        return keras.tree.map_structure(drawn, input_structure(model))
    except ValueError as error:
        raise ValueError(
            f"`data`: expected a Data or a batch of inputs, as {model.name!r} does not say what it takes. Received: None."
        ) from error


def _array(tensor: Any) -> np.ndarray:
    array = np.asarray(tensor)
    return array if array.dtype.kind in "fiub" else array.astype("float32")
