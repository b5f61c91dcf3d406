"""Arrays that an unfinished run keeps beside its checkpoints, so that it can go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.home import write_atomic
from kdfuse.keys import state_folder


class Shelf:
    """Lists of arrays under names, in the folder of the current run's state; in memory alone where it has none.

    Args:
        data: streams have no exact resume, and nothing is written for them.
    """

    def __init__(self, data: Data) -> None:
        run = recording.current()
        key = run.key if run is not None and data.indexable else None
        self.folder: Path | None = state_folder(key) / "weights" if key else None
        self.held: dict[str, list[np.ndarray]] = {}

    def put(self, name: str, arrays: Sequence[Any]) -> None:
        """Keep arrays under a name; earlier ones of that name are replaced."""
        self.held[name] = [np.asarray(array).copy() for array in arrays]
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.folder / f"{name}.npz", lambda path: _write(path, self.held[name]))

    def get(self, name: str) -> list[np.ndarray] | None:
        """What was kept, also by an earlier process; None where there is nothing."""
        if name not in self.held and self.folder is not None and (self.folder / f"{name}.npz").is_file():
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as stored:
                self.held[name] = [stored[str(place)] for place in range(len(stored.files))]
        return self.held.get(name)

    def drop(self, name: str) -> None:
        """Forget what was kept under a name."""
        self.held.pop(name, None)
        if self.folder is not None:
            (self.folder / f"{name}.npz").unlink(missing_ok=True)


def _write(path: Path, arrays: Sequence[np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **{str(place): array for place, array in enumerate(arrays)})  # type: ignore[arg-type]
