"""CIFAR-10: 60,000 colour photographs of 32x32 pixels."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from kdfuse.data import Data
from kdfuse.datasets import files
from kdfuse.datasets.prepare import images

ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FOLDER = "cifar-10-batches-py"
ARCHIVES = ("cifar-10-python.tar.gz", f"{FOLDER}-target_archive", f"{FOLDER}.tar.gz")
EXTRACTED = (FOLDER, f"{FOLDER}-target/{FOLDER}")
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
ROWS = 10000
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_cifar10(validation: float = 0.1, labels: int | None = None, seed: int = 0) -> Data:
    """Inputs `(32, 32, 3)` float32 in [0, 1], labels 0 to 9; the official 50,000 / 10,000 split.

    Read from `cifar-10-python.tar.gz`, checked by its SHA-256, or from the folder `cifar-10-batches-py` that was extracted from it,
    or downloaded as `keras.datasets.cifar10` does. The batches are pickles, which can run code when they are read; they are read by
    an unpickler that builds NumPy arrays and plain values and refuses everything else.

    Args:
        validation: share of the training rows to set aside, drawn by class; 0 for none.
        labels: keep only so many training rows, drawn by class; None for all.
        seed: of both draws.

    Reference: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """
    path = files.find([*ARCHIVES, *EXTRACTED]) or files.download(ARCHIVES[0], ORIGIN, SHA256)
    batches = {name: parse(content, f"{path}: {name}", ROWS) for name, content in _contents(path).items()}
    train = [batches[name] for name in BATCHES[:-1]]
    arrays = {
        "x_train": np.concatenate([x for x, _ in train]),
        "y_train": np.concatenate([y for _, y in train]),
        "x_test": batches[BATCHES[-1]][0],
        "y_test": batches[BATCHES[-1]][1],
    }
    return images("cifar10", arrays, NAMES, validation, labels, seed)


def parse(content: bytes, where: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `(rows, 32, 32, 3)` and labels `(rows,)` of one pickled batch.

    Raises:
        ValueError: it is not such a batch, or names anything but NumPy arrays.
    """
    try:
        batch = _Restricted(io.BytesIO(content), encoding="bytes").load()
        x, y = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    except Exception as error:
        raise ValueError(f"{where}: expected a CIFAR-10 batch. Received: {error}. Delete the file or replace it.") from error
    if x.dtype != np.uint8 or x.shape != (rows, 3072) or y.shape != (rows,) or y.dtype.kind not in "iu":
        received = f"data {x.dtype} {x.shape}, labels {y.dtype} {y.shape}"
        raise ValueError(f"{where}: expected {rows} rows of 3072 bytes with labels. Received: {received}. Delete the file or replace it.")
    return x.reshape(rows, 3, 32, 32).transpose(0, 2, 3, 1), y


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # The published files were written by Python 2: these three names rebuild an array.
        rebuild = np.empty(0).__reduce__()[0]  # type: ignore[index]
        modules = ("numpy.core.multiarray", "numpy._core.multiarray")
        allowed = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, **{(each, "_reconstruct"): rebuild for each in modules}}
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"the pickle names {module}.{name}, which no data set needs")
        return allowed[module, name]


def _contents(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        missing = [name for name in BATCHES if not (path / name).is_file()]
        if missing:
            raise ValueError(f"{path}: expected the files {list(BATCHES)}. Received: none named {missing}. Extract the archive again.")
        return {name: (path / name).read_bytes() for name in BATCHES}
    files.check(path, SHA256)
    found = {}
    with tarfile.open(path, "r:*") as archive:
        for name in BATCHES:
            member = archive.extractfile(f"{FOLDER}/{name}")
            found[name] = member.read() if member else b""  # `parse` refuses an empty batch.
    return found
