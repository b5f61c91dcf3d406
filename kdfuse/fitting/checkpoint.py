"""Checkpoints from which a killed run goes on: one file, written whole or not at all, checked when it is read, two kept."""

import hashlib
import io
import json
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import keras
import ml_dtypes  # noqa: F401  registers bfloat16 and float8 with NumPy
import numpy as np

from kdfuse.home import mend, write_atomic

MAGIC = b"KDFUSE-CHECKPOINT-1\n"


class State(NamedTuple):
    """What a checkpoint holds: JSON-able values and named lists of arrays."""

    meta: dict[str, Any]
    arrays: dict[str, list[np.ndarray]]


def write(path: Path, state: State) -> None:
    """Write `state` to `path` in one step, with a SHA-256 over all of it."""
    index: dict[str, list[dict[str, Any]]] = {}
    body = io.BytesIO()
    for name, arrays in state.arrays.items():
        index[name] = [{"dtype": array.dtype.name, "shape": array.shape} for array in arrays]
        for array in arrays:
            body.write(np.ascontiguousarray(array).tobytes())
    head = json.dumps({"meta": state.meta, "index": index}).encode()
    payload = len(head).to_bytes(8, "big") + head + body.getvalue()
    write_atomic(path, MAGIC + hashlib.sha256(payload).digest() + payload)


def read(path: Path) -> State:
    """Read a checkpoint.

    Raises:
        ValueError: the file is truncated, altered or not a checkpoint.
        OSError: it cannot be read.
    """
    raw = path.read_bytes()
    start = len(MAGIC) + 32
    if raw[: len(MAGIC)] != MAGIC or hashlib.sha256(raw[start:]).digest() != raw[len(MAGIC) : start]:
        raise ValueError(f"{path} is not a whole checkpoint: its checksum does not fit.")
    size = int.from_bytes(raw[start : start + 8], "big")
    head = json.loads(raw[start + 8 : start + 8 + size])
    offset = start + 8 + size
    arrays: dict[str, list[np.ndarray]] = {}
    for name, entries in head["index"].items():
        arrays[name] = []
        for entry in entries:
            dtype, count = np.dtype(entry["dtype"]), int(np.prod(entry["shape"], dtype=np.int64))
            arrays[name].append(np.frombuffer(raw, dtype, count, offset).reshape(entry["shape"]).copy())
            offset += count * dtype.itemsize
    return State(head["meta"], arrays)


class Shelf:
    """The checkpoints of one fit: a folder with the newest two, held by one process at a time.

    Args:
        folder: where they are. None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._lock = _lock(folder) if folder is not None else None
        self.taken = folder is not None and self._lock is None
        """Whether another living process holds the folder: then nothing is kept here."""

    @property
    def open(self) -> bool:
        """Whether checkpoints are kept."""
        return self._lock is not None

    def newest(self, most: int | None = None) -> State | None:
        """The newest checkpoint that is whole, with a warning for each that is not.

        Args:
            most: epochs; checkpoints of more are dropped. None: the newest of all.
        """
        if not self.open or self.folder is None:
            return None
        for path in sorted(self.folder.glob("epoch-*.ckpt"), reverse=True):
            if most is not None and int(path.stem.rpartition("-")[2]) >= most:
                path.unlink(missing_ok=True)
                continue
            try:
                return read(path)
            except (ValueError, OSError, KeyError, TypeError) as error:
                warnings.warn(f"A checkpoint is damaged and left out: {error}", stacklevel=2)
        return None

    def put(self, epoch: int, state: State) -> None:
        """Keep a checkpoint, and drop those older than the one before it. A full disk warns and training goes on."""
        if not self.open or self.folder is None:
            return
        try:
            write(self.folder / f"epoch-{epoch:06d}.ckpt", state)
            for old in sorted(self.folder.glob("epoch-*.ckpt"))[:-2]:
                old.unlink(missing_ok=True)
        except OSError as error:
            told = f"{error}{mend(error, self.folder)}"
            warnings.warn(f"The checkpoint of epoch {epoch} could not be written; the ones before it stay. {told}", stacklevel=2)

    def close(self) -> None:
        """Let go of the folder; the checkpoints stay."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Checkpoints(keras.callbacks.Callback):
    """Keeps a checkpoint at the end of every `every` epochs, with the state of the callbacks that have `get_state`.

    Args:
        shelf: where they go.
        every: epochs between two.
        keep: callbacks whose `get_state() -> (meta, arrays)` is kept and given back through `set_state`.
    """

    def __init__(self, shelf: Shelf, every: int, keep: list[Any]) -> None:
        super().__init__()
        self.shelf, self.every, self.keep = shelf, every, keep

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if (epoch + 1) % self.every and not self.model.stop_training:
            return
        arrays = {"weights": self.model.get_weights(), "optimizer": _values(self.model.optimizer.variables)}
        states = []
        for place, callback in enumerate(self.keep):
            meta, own = callback.get_state()
            states.append(meta)
            arrays[f"callback-{place}"] = own
        self.shelf.put(epoch, State({"epoch": epoch, "callbacks": states}, arrays))

    def resume(self, model: keras.Model, most: int | None = None) -> int:
        """Give back what the newest checkpoint (of at most so many epochs) holds; the epoch to begin with (0 where there is none)."""
        state = self.shelf.newest(most)
        if state is None:
            return 0
        targets = [variable.shape for variable in model.weights]
        if [tuple(array.shape) for array in state.arrays["weights"]] != [tuple(shape) for shape in targets]:
            warnings.warn("The checkpoint does not fit the model; training begins again.", stacklevel=2)
            return 0
        if not model.optimizer.built:  # a second build gives a loss-scaling optimizer its own variables twice
            model.optimizer.build(model.trainable_variables)
        model.set_weights(state.arrays["weights"])
        for variable, value in zip(model.optimizer.variables, state.arrays["optimizer"], strict=True):
            variable.assign(value)
        for place, (callback, meta) in enumerate(zip(self.keep, state.meta["callbacks"], strict=True)):
            callback.set_state(meta, state.arrays[f"callback-{place}"])
        return int(state.meta["epoch"]) + 1


def _values(variables: list[Any]) -> list[np.ndarray]:
    return [np.asarray(variable.numpy()) for variable in variables]


def _lock(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        warnings.warn(f"No checkpoints are kept: {error}", stacklevel=3)
        return None
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ModuleNotFoundError:  # Windows has no flock; two equal runs at once are rare enough there
        return descriptor
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
