"""The ledger: every trial that ended or paused, on disk at once, from which a killed search goes on."""

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdfuse.fitting.checkpoint import Shelf
from kdfuse.keys import state_folder


class Ledger:
    """A file with a line for each trial that ended, or paused at a rung, and the models worth keeping.

    Args:
        folder: where both are.
        read: whether what is there is read.
    """

    def __init__(self, folder: Path, read: bool = True) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "trials.jsonl"
        self.kept: dict[int, dict[str, Any]] = {}
        """The trials that ended before, by number."""
        self.rungs: dict[int, dict[int, dict[str, Any]]] = {}
        """What was known of trials where they paused, by number and epochs."""
        if read and self._file.exists():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                try:
                    kept = json.loads(line)
                    number, rung = int(kept["number"]), kept.get("rung")
                    if rung is None:
                        self.kept[number] = kept
                    else:
                        self.rungs.setdefault(number, {})[int(rung)] = kept
                except (ValueError, KeyError, TypeError):
                    warnings.warn("A line of the search's ledger is not whole: that trial runs again.", stacklevel=2)

    def put(self, kept: dict[str, Any]) -> None:
        """Write down a trial that ended or paused, safe from a kill at once and from a power cut after `sync`. A full disk warns."""
        self._write(json.dumps(kept) + "\n")

    def sync(self) -> None:
        """Have the disk keep what was written down."""
        if self._file.exists():
            self._write("", sync=True)

    def _write(self, text: str, sync: bool = False) -> None:
        try:
            with open(self._file, "a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
        except OSError as error:
            warnings.warn(f"A trial could not be written down; a killed search would run it again. {error}", stacklevel=3)

    def model(self, number: int) -> Path:
        """Where the model of a trial is kept."""
        return self.folder / "models" / f"trial-{number}.keras"

    def drop(self, number: int) -> None:
        """Drop the model of a trial."""
        self.model(number).unlink(missing_ok=True)


@contextlib.contextmanager
def ledger(key: str | None) -> Iterator[tuple[Ledger, list[str]]]:
    """The ledger of a search, held by one process at a time, with notes a reader should know.

    Args:
        key: of the search. None: a folder of its own, that nobody finds again.
    """
    shelf = Shelf(state_folder(key) / "search" if key else None)
    try:
        if shelf.open and shelf.folder is not None:
            yield Ledger(shelf.folder), []
            return
        notes = ["Another process makes the same search: this one keeps nothing to go on from."] if shelf.taken else []
        notes += [] if key else ["The data is a stream: a killed search begins again."]
        scratch = Path(tempfile.mkdtemp(prefix="kdfuse-search-"))
        try:
            yield Ledger(scratch), notes
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        shelf.close()
