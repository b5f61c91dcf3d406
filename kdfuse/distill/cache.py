"""A teacher's lesson on all rows, computed once and kept: in memory, or on disk above a size."""

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
from kdfuse.distill.lessons import Lesson, short
from kdfuse.distill.outputs import like
from kdfuse.distill.structure import flat
from kdfuse.distill.teachers import Teacher
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.home import atomic, home, write_atomic
from kdfuse.settings import choose, settings
from kdfuse.splits import ArraySplit

VERSION = 2
"""Of what the files mean: another number, and they are computed again."""
MEMORY_BYTES = 1 << 30
"""Outputs above this size go to disk; the outputs kept in memory never take more together. `KDFUSE_TEACHER_MEMORY` (bytes) replaces it."""

PROBED = 8
"""Rows on which what is kept is compared with what the teacher says now."""

HALF = float(np.finfo(np.float16).max)

Source = Literal["computed", "memory", "disk"]


@settings
class Cache:
    """How a teacher's outputs are kept.

    Attributes:
        where: `memory`, `disk`, or `auto`: in memory up to 1 GiB, on disk (mapped, not loaded) above.
        dtype: `float32`, or `float16` at half the size: logits and features to three digits, between -65504 and 65504.
        top_k: the largest logits of each row that are kept, the others sharing what probability is left; None for all. At
            least 1. Losses then see a teacher that is blind to the order of unlikely classes.
        views: with `Train(augment=...)`: how many augmented views of each row are made once and kept with the teacher's outputs
            on them; epoch e trains on view e mod views. 0: augmented anew in every epoch, with the teacher in every step.
    """

    where: str = "auto"
    dtype: str = "float32"
    top_k: int | None = None
    views: int = 0

    def __post_init__(self) -> None:
        choose("where", self.where, ("auto", "memory", "disk"))
        choose("dtype", self.dtype, ("float32", "float16"))
        for name, value, least in (("top_k", self.top_k, 1), ("views", self.views, 0)):
            if not (value is None and name == "top_k") and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"`{name}` of Cache: expected an integer of at least {least}. Received: {name}={value!r}.")


class Targets(NamedTuple):
    """The teacher's lesson on all rows, in arrays, and where it comes from."""

    lesson: Lesson
    source: Source

    @property
    def outputs(self) -> Any:
        """The logits, in the structure of the teacher's outputs."""
        return self.lesson["logits"]


def targets(teacher: Teacher, split: ArraySplit, *, batch_size: int = 256, cache: Cache | None = None) -> Targets:
    """What a teacher says of every row of a split.

    It is looked up by a fingerprint of the teacher's configuration and weights, of the inputs, of the heads and of the
    layers that are read, so a teacher that was trained further, or other rows, never get old ones. A file that is not whole
    is computed again, and so is all that a teacher does not say of the first rows any more.

    Args:
        teacher: its model is run with `training=False`, and left as it is.
        split: whose inputs it sees, in order.
        batch_size: rows the teacher sees at once.
        cache: where and in what form they are kept.

    Returns:
        The lesson, and whether it was computed or found in memory or on disk.

    Raises:
        ValueError: the teacher gives NaN or infinity.
    """
    cache = cache or Cache()
    key = _key(teacher, split, cache)
    if cache.where != "disk" and (kept := _memory.get(key)) is not None and _holds(kept, teacher, split, cache):
        return Targets(kept, "memory")
    if cache.where != "memory" and (mapped := _read(key)) is not None and _holds(mapped, teacher, split, cache):
        return Targets(mapped, "disk")
    compute = _compiled(teacher, cache)
    first = compute(split.head(min(batch_size, len(split)))[0])
    forms = [Form((len(split), *leaf.shape[1:]), _dtype(leaf, cache)) for leaf in flat(first)]
    size = sum(form.dtype.itemsize * int(np.prod(form.shape, dtype=np.int64)) for form in forms)
    if cache.where == "disk" or (cache.where == "auto" and size > memory_bytes()):
        return Targets(_write(key, teacher, split, compute, first, forms, batch_size), "computed")
    filled = [np.empty(form.shape, form.dtype) for form in forms]
    _fill(filled, teacher, split, compute, batch_size)
    lesson = like(first, filled)
    _memory.put(key, lesson, size)
    return Targets(lesson, "computed")


def memory_bytes() -> int:
    """The size above which outputs go to disk."""
    return int(os.environ.get("KDFUSE_TEACHER_MEMORY", MEMORY_BYTES))


def forget() -> None:
    """Drop the outputs kept in memory."""
    _memory.clear()


class Form(NamedTuple):
    """What an array of the lesson looks like."""

    shape: tuple[int, ...]
    dtype: np.dtype


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


def _key(teacher: Teacher, split: ArraySplit, cache: Cache) -> str:
    form = [cache.dtype, cache.top_k]
    parts = [VERSION, keras.__version__, fingerprint(teacher.model), arrays.fingerprint(split.x), teacher.head, list(teacher.layers), form]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _holds(lesson: Lesson, teacher: Teacher, split: ArraySplit, cache: Cache) -> bool:
    """Whether the teacher still says so of the first rows: what its own code reads besides weights and config has no fingerprint."""
    said = teacher(keras.tree.map_structure(tf.convert_to_tensor, split.head(PROBED)[0]))
    said = said if cache.top_k is None else short(said, cache.top_k)
    for new, old in zip(flat(said), flat(lesson), strict=True):
        if new.dtype.is_floating:
            new, old = np.asarray(new, "float32"), np.asarray(old[: len(new)], "float32")
            new = np.clip(new, -HALF, HALF) if cache.dtype == "float16" else new
            if not np.abs(new - old).max() <= 1e-2 * max(np.abs(old).max(), 1e-6):
                return False
    return True


def _compiled(teacher: Teacher, cache: Cache) -> Any:
    @tf.function(reduce_retracing=True)
    def compute(inputs: Any) -> Any:
        lesson = teacher(inputs)
        return lesson if cache.top_k is None else short(lesson, cache.top_k)

    return compute


def _dtype(leaf: Any, cache: Cache) -> np.dtype:
    return np.dtype(cache.dtype) if leaf.dtype.is_floating else np.dtype(leaf.dtype.as_numpy_dtype)


def _fill(filled: list[np.ndarray], teacher: Teacher, split: ArraySplit, compute: Any, batch_size: int) -> None:
    begin = 0
    for inputs, _, _ in split.batches(batch_size):
        batch = [leaf.numpy() for leaf in flat(compute(inputs))]
        for whole, part in zip(filled, batch, strict=True):
            if not np.isfinite(part).all():
                row = begin + int(np.argwhere(~np.isfinite(part))[0][0])
                raise ValueError(
                    f"`teacher`: {teacher.model.name!r} gives NaN or infinity for training row {row}. Train it again, or mend that row."
                )
            whole[begin : begin + len(part)] = np.clip(part, -HALF, HALF) if whole.dtype == np.float16 else part
        begin += len(batch[0])
    for whole in filled:
        whole.flags.writeable = False


def _write(key: str, teacher: Teacher, split: ArraySplit, compute: Any, first: Any, forms: list[Form], batch_size: int) -> Any:
    """Compute into files; the index, written last, says that they are whole."""
    paths = [_folder() / f"{key}.{place}.npy" for place in range(len(forms))]
    _index(key).unlink(missing_ok=True)
    _write_next(paths, forms, [], lambda filled: _fill(filled, teacher, split, compute, batch_size))
    structure = like(first, list(range(len(forms))))
    marks = [{"shape": form.shape, "sha256": _checksum(path)} for path, form in zip(paths, forms, strict=True)]
    write_atomic(_index(key), json.dumps({"structure": structure, "files": marks}).encode())
    return like(structure, [np.load(path, mmap_mode="r") for path in paths])


def _write_next(paths: list[Path], forms: list[Form], filled: list[np.ndarray], fill: Any) -> None:
    if not paths:
        fill(filled)
        return
    with atomic(paths[0]) as temporary:
        mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=forms[0].dtype, shape=forms[0].shape)
        _write_next(paths[1:], forms[1:], [*filled, mapped], fill)
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
