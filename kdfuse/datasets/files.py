"""Files of published data sets: found or downloaded, and checked."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def folders() -> list[Path]:
    """Where files are looked for: the folder `KDFUSE_DATA`, then the Keras cache."""
    given = os.environ.get("KDFUSE_DATA")
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
    return [*([Path(given).expanduser()] if given else []), keras_home / "datasets"]


def find(names: Sequence[str]) -> Path | None:
    """The first of the relative paths `names` that exists, folder by folder."""
    for folder in folders():
        for name in names:
            if (folder / name).exists():
                return folder / name
    return None


def download(name: str, origin: str, sha256: str | None, folder: str = "") -> Path:
    """Download a file into the Keras cache, unless it is there.

    Args:
        name: of the file in the cache.
        origin: its public address.
        sha256: what its SHA-256 must be; None where the source packs the file anew and the caller checks its contents.
        folder: below the cache's `datasets`.

    Raises:
        OSError: it cannot be had, or what came has another SHA-256.
    """
    import keras

    cache = folders()[-1].parent
    try:
        cache.mkdir(parents=True, exist_ok=True)  # Keras would go to a shared temporary folder where it is missing.
        path = keras.utils.get_file(
            name,
            origin,
            cache_dir=cache,
            cache_subdir=os.path.join("datasets", folder),
            file_hash=sha256,
            hash_algorithm="sha256" if sha256 else "auto",
        )
    except Exception as error:
        places = " or ".join(str(place) for place in folders())
        raise OSError(
            f"`{name}` is not in {places} and could not be downloaded from {origin}: {error}. "
            "Put the file there by hand, or set KDFUSE_DATA to the folder that has it."
        ) from error
    return Path(path)


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def check(path: Path, expected: str, algorithm: str = "sha256") -> Path:
    """Return `path` if the file has the expected hash.

    Raises:
        ValueError: it has another one.
    """
    received = digest(path, algorithm)
    if received != expected:
        raise ValueError(f"{path}: expected the published file, {algorithm} {expected}. Received: {received}. Delete it or replace it.")
    return path


def read_npz(path: Path, shapes: dict[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray], str]:
    """The uint8 arrays of an `.npz` file, read without pickle, and the SHA-256 over their bytes in the order of `shapes`.

    Raises:
        ValueError: the file cannot be read, or an array is missing or has another type or shape.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in shapes if name in file.files}
    except Exception as error:
        raise ValueError(f"{path}: expected a readable .npz file. Received: {error}. Delete it or replace it.") from error
    received = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    expected = {name: ("uint8", shape) for name, shape in shapes.items()}
    if received != expected:
        raise ValueError(f"{path}: expected the arrays {expected}. Received: {received}. Delete it or replace it.")
    summed = hashlib.sha256()
    for array in arrays.values():
        summed.update(np.ascontiguousarray(array).data)
    return arrays, summed.hexdigest()
