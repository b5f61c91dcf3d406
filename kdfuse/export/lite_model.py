"""A `.tflite` file as a callable: one batch in, NumPy out, in the structure of the model it was made from."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from kdfuse.export.lite_file import MEND, LiteFile, Tensor, read_file, read_source
from kdfuse.export.lite_trust import is_whole, survives
from kdfuse.export.quiet import quiet
from kdfuse.export.signature import match_inputs, restore_outputs


class LiteModel:
    """A LiteRT model, run by LiteRT's interpreter.

    Called on a batch it gives the batch's outputs as NumPy arrays in float32: one array, a list, or a dict, as the model it was
    made from (a dict of one output gives the array). Integer inputs and outputs of the file are quantized and dequantized. Any
    number of rows is taken: the file's batch is resized, or the rows go through in parts where it is fixed.

    Args:
        source: a path, or the bytes.
        threads: threads of the interpreter.

    Attributes:
        data: the bytes of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, truncated or damaged, or no LiteRT model.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes, threads: int = 1) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ValueError(f"`threads`: expected an integer of at least 1. Received: {threads!r}.")
        self.data, self._name = read_source(source)
        whole = is_whole(self.data)
        if whole is False:
            raise ValueError(f"`source`: {self._name}: the LiteRT model is truncated or damaged (its checksum does not fit). {MEND}")
        self._file: LiteFile = read_file(self.data, self._name)
        if whole is None and not survives(self.data):
            raise ValueError(f"`source`: {self._name}: the LiteRT model is damaged (LiteRT crashes on it). {MEND}")
        self._threads = threads
        try:
            self._interpreter = self._made()
        except Exception as error:
            raise ValueError(f"`source`: {self._name}: LiteRT does not load the model: {_line(error)}") from error
        self._in_parts = any(not tensor.shape or tensor.shape[0] != -1 for tensor in self._file.inputs)
        self._keeps_state = any(tensor.variable for tensor in self._file.tensors)

    @property
    def bytes(self) -> int:
        """How many bytes the file has."""
        return len(self.data)

    @property
    def integer_share(self) -> float | None:
        """The share of operations that compute in integers: see `LiteFile.integer_share`."""
        return self._file.integer_share

    @property
    def inputs(self) -> list[Tensor]:
        """Name, shape (-1 where open) and dtype of each input, in the order of the original model's."""
        return self._file.inputs

    @property
    def outputs(self) -> list[Tensor]:
        """Name, shape (-1 where open) and dtype of each output, in the order of the signature."""
        return self._file.outputs

    def __call__(self, inputs: Any) -> Any:
        """Run one batch.

        Args:
            inputs: arrays `[rows, ...]`: one, a list in the order of `inputs`, or a dict by their names.

        Returns:
            The outputs in float32 (integers that are no quantized numbers stay integers).

        Raises:
            ValueError: inputs that do not fit.
        """
        arrays = self._arrays(inputs)
        rows = len(arrays[0])
        if not self._in_parts:
            try:
                return restore_outputs(self._run(arrays))
            except RuntimeError:
                # Some operations hold on to the batch that they were converted with.
                self._in_parts = True
        size, parts = self._part, []
        for start in range(0, rows, size):
            part = [_filled(array[start : start + size], size) for array in arrays]
            try:
                parts.append({name: value[: rows - start] for name, value in self._run(part).items()})
            except RuntimeError as error:
                raise ValueError(f"`inputs`: LiteRT cannot run the model on them: {_line(error)}") from error
        return restore_outputs({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def prepare(self, inputs: Any) -> Callable[[], None]:
        """Put one batch in place, and give the call that computes it: what is timed.

        Args:
            inputs: as for a call; where the file fixes its batch, that many rows.
        """
        arrays = self._arrays(inputs)
        size = self._part
        if self._in_parts and len(arrays[0]) != size:
            arrays = [_filled(array[:size], size) for array in arrays]
        self._run(arrays)
        return self._interpreter.invoke  # type: ignore[no-any-return]

    def _made(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        with quiet():
            interpreter = Interpreter(model_content=self.data, num_threads=self._threads)
            interpreter.allocate_tensors()  # tells of its delegate
        return interpreter

    @property
    def _part(self) -> int:
        """Rows at a time, where they go through in parts."""
        return next((tensor.shape[0] for tensor in self._file.inputs if tensor.shape and tensor.shape[0] > 0), 1)

    def _arrays(self, inputs: Any) -> list[np.ndarray]:
        arrays = [np.asarray(value) for value in match_inputs(inputs, [tensor.name for tensor in self._file.inputs])]
        self._check(arrays)
        return arrays

    def _check(self, arrays: list[np.ndarray]) -> None:
        counts = {array.shape[:1] for array in arrays}
        for array, tensor in zip(arrays, self._file.inputs, strict=True):
            fits = array.ndim == len(tensor.shape) and all(
                size in (-1, given) for size, given in zip(tensor.shape[1:], array.shape[1:], strict=True)
            )
            if not fits or len(counts) != 1 or not array.size:
                expected = tuple("any" if size == -1 or not place else size for place, size in enumerate(tensor.shape))
                raise ValueError(f"`inputs`: expected {tensor.name!r} of shape {expected}. Received: {array.shape}.")

    def _run(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        details = self._interpreter.get_input_details()
        resized = False
        for detail, array in zip(details, arrays, strict=True):
            if tuple(detail["shape"]) != array.shape:
                self._interpreter.resize_tensor_input(detail["index"], array.shape)
                resized = True
        if resized:
            self._interpreter.allocate_tensors()
        if self._keeps_state:
            self._interpreter.reset_all_variables()
        for detail, array in zip(details, arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], _quantized(array, detail))
        self._interpreter.invoke()
        found = {detail["index"]: _dequantized(self._interpreter.get_tensor(detail["index"]), detail)
                 for detail in self._interpreter.get_output_details()}  # fmt: skip
        return {tensor.name: found[tensor.place] for tensor in self._file.outputs}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data, self._threads)

    def __repr__(self) -> str:
        return f"LiteModel({self._name}, {self.bytes:,} bytes)"


def _quantized(array: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(detail["dtype"])
    scale, zero = detail["quantization"]
    if dtype.kind not in "iu" or not scale:
        return np.ascontiguousarray(array, dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(dtype)


def _dequantized(array: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if array.dtype.kind in "iu" and scale:
        return (array.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _filled(array: np.ndarray, rows: int) -> np.ndarray:
    missing = rows - len(array)
    return array if missing <= 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
