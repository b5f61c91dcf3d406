"""A teacher's outputs for all rows, computed once and kept: in memory, or on disk above a size."""

import hashlib
import json
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kdfuse import arrays
from kdfuse.distill.distiller import INPUTS, TARGETS
from kdfuse.distill.outputs import like, logits_of
from kdfuse.distill.structure import flat
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.home import atomic, home, write_atomic
from kdfuse.splits import ArraySplit

VERSION = 1
"""Of what the files mean: another number, and they are computed again."""
MEMORY_BYTES = 1 << 30
"""Outputs above this size go to disk; the outputs kept in memory never take more together. `KDFUSE_TEACHER_MEMORY` (bytes) replaces it."""

Source = Literal["computed", "memory", "disk"]


class Targets(NamedTuple):
    """The float32 logits of all rows, in the structure of the teacher's outputs, and where they come from."""

    outputs: Any
    source: Source


class TaughtSplit(ArraySplit):
    """Rows with the teacher's outputs: what it tells is as before, its batches carry `{"inputs": x, "teacher_logits": outputs}` as x."""

    def __init__(self, split: ArraySplit, outputs: Any) -> None:
        super().__init__(split.x, split.y, split.sample_weight, name="train")
        self._taught = ArraySplit(
            {INPUTS: split.x, TARGETS: outputs}, split.y, split.sample_weight, name="train, with the teacher's outputs,"
        )

    def dataset(self, batch_size: int, *, seed: int | None = None, start: int = 0, epochs: int = 1) -> tf.data.Dataset:
        return self._taught.dataset(batch_size, seed=seed, start=start, epochs=epochs)


def targets(teacher: keras.Model, split: ArraySplit, heads: Any, *, batch_size: int = 256, disk: bool | None = None) -> Targets:
    """The teacher's logits for every row of a split.

    They are looked up by a fingerprint of the teacher's configuration and weights, of the inputs and of the heads, so a
    teacher that was trained further, or other rows, never get old ones. A file that is not whole is computed again.

    Args:
        teacher: run with `training=False`, and left as it is.
        split: whose inputs it sees, in order.
        heads: what the teacher's outputs are, see `logits_of`.
        batch_size: rows the teacher sees at once.
        disk: True for a file under `KDFUSE_HOME`, False for memory, None for memory up to `MEMORY_BYTES`.

    Returns:
        Logits, and whether they were computed or found in memory or on disk.

    Raises:
        ValueError: the teacher gives NaN or infinity.
    """
    key = _key(teacher, split, heads)
    if not disk and (kept := _memory.get(key)) is not None:
        return Targets(kept, "memory")
    if disk is not False and (mapped := _read(key)) is not None:
        return Targets(mapped, "disk")
    compute = _compiled(teacher, heads)
    first = compute(split.head(min(batch_size, len(split)))[0])
    shapes = [(len(split), *leaf.shape[1:]) for leaf in flat(first)]
    size = sum(4 * int(np.prod(shape, dtype=np.int64)) for shape in shapes)
    if disk or (disk is None and size > memory_bytes()):
        return Targets(_write(key, teacher, split, compute, first, shapes, batch_size), "computed")
    filled = [np.empty(shape, np.float32) for shape in shapes]
    _fill(filled, teacher, split, compute, batch_size)
    outputs = like(first, filled)
    _memory.put(key, outputs, size)
    return Targets(outputs, "computed")


def memory_bytes() -> int:
    """The size above which outputs go to disk."""
    return int(os.environ.get("KDFUSE_TEACHER_MEMORY", MEMORY_BYTES))


def forget() -> None:
    """Drop the outputs kept in memory."""
    _memory.clear()


class _Memory:
    """The outputs used last, as many as fit."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: str, outputs: Any, size: int) -> None:
        with self._lock:
            self._kept[key] = outputs, size
            while self._kept and sum(size for _, size in self._kept.values()) > memory_bytes():
                self._kept.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


_memory = _Memory()


def _key(teacher: keras.Model, split: ArraySplit, heads: Any) -> str:
    parts = [VERSION, keras.__version__, fingerprint(teacher), arrays.fingerprint(split.x), heads]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _compiled(teacher: keras.Model, heads: Any) -> Any:
    @tf.function(reduce_retracing=True)
    def compute(inputs: Any) -> Any:
        outputs = logits_of(teacher(inputs, training=False), heads)
        # A teacher with activity regularisers would keep tensors of this graph.
        teacher._clear_losses()
        return outputs

    return compute


def _fill(filled: list[np.ndarray], teacher: keras.Model, split: ArraySplit, compute: Any, batch_size: int) -> None:
    begin = 0
    for inputs, _, _ in split.batches(batch_size):
        batch = [leaf.numpy() for leaf in flat(compute(inputs))]
        for whole, part in zip(filled, batch, strict=True):
            if not np.isfinite(part).all():
                row = begin + int(np.argwhere(~np.isfinite(part))[0][0])
                raise ValueError(
                    f"`teacher`: {teacher.name!r} gives NaN or infinity for training row {row}. Train it again, or mend that row."
                )
            whole[begin : begin + len(part)] = part
        begin += len(batch[0])
    for whole in filled:
        whole.flags.writeable = False


def _write(
    key: str, teacher: keras.Model, split: ArraySplit, compute: Any, first: Any, shapes: list[tuple[int, ...]], batch_size: int
) -> Any:
    """Compute into files; the index, written last, says that they are whole."""
    paths = [_folder() / f"{key}.{place}.npy" for place in range(len(shapes))]
    _index(key).unlink(missing_ok=True)
    _write_next(paths, shapes, [], lambda filled: _fill(filled, teacher, split, compute, batch_size))
    structure = like(first, list(range(len(shapes))))
    marks = [{"shape": shape, "sha256": _checksum(path)} for path, shape in zip(paths, shapes, strict=True)]
    write_atomic(_index(key), json.dumps({"structure": structure, "files": marks}).encode())
    return like(structure, [np.load(path, mmap_mode="r") for path in paths])


def _write_next(paths: list[Path], shapes: list[tuple[int, ...]], filled: list[np.ndarray], fill: Any) -> None:
    if not paths:
        fill(filled)
        return
    with atomic(paths[0]) as temporary:
        mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shapes[0])
        _write_next(paths[1:], shapes[1:], [*filled, mapped], fill)
        mapped.flush()


def _read(key: str) -> Any:
    """What `_write` wrote; None where it is missing, truncated or altered."""
    try:
        index = json.loads(_index(key).read_text())
        found = []
        for place, mark in enumerate(index["files"]):
            path = _folder() / f"{key}.{place}.npy"
            if _checksum(path) != mark["sha256"]:
                return None
            found.append(np.load(path, mmap_mode="r"))
        return like(index["structure"], found)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder() -> Path:
    return home("teachers")


def _index(key: str) -> Path:
    return _folder() / f"{key}.json"
