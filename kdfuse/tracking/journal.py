"""The journal of a run: every event as one line of JSON on disk, before anything is sent.

A journal is a folder `KDFUSE_HOME/journal/<run id>` with `events.jsonl`, the files and the model of the run, and a lock
that its process holds while the run is open or being sent. It is deleted when MLflow has the whole run.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdfuse.home import home
from kdfuse.tracking.lock import FileLock

EVENTS = "events.jsonl"
FLUSH_SECONDS = 0.5

Event = dict[str, Any]


class Journal:
    """An open journal, written by the process of its run.

    Attributes:
        folder: where it lies.
    """

    def __init__(self, run_id: str, root: Path | None = None) -> None:
        self.folder = (root or home("journal")) / run_id
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lock = FileLock(self.folder / "lock")
        self.lock.acquire()
        self._descriptor: int | None = os.open(self.folder / EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._flushed = 0.0
        self._copied = 0

    def write(self, event: Event, *, flush: bool = False) -> None:
        """Append an event. It outlives a killed process at once, and a crash of the machine within half a second of events.

        Args:
            event: with a `"kind"`; JSON values.
            flush: wait until the disk has it.
        """
        if self._descriptor is None:
            raise ValueError(f"The journal {self.folder} is closed.")
        line = json.dumps(event, default=str).encode() + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]
        now = time.monotonic()
        if flush or now - self._flushed >= FLUSH_SECONDS:
            os.fsync(self._descriptor)
            self._flushed = now

    def keep(self, path: Path) -> str:
        """Copy a file or a folder into the journal; its place there."""
        place = f"files/{self._copied}/{path.name}"
        self._copied += 1
        target = self.folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target)
        else:
            shutil.copy2(path, target)
        return place

    def close(self) -> None:
        """No more events will come. The lock stays until `release`."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def release(self) -> None:
        """Leave the journal to whoever syncs it."""
        self.close()
        self.lock.release()

    def remove(self) -> None:
        """Delete the journal: MLflow has it all."""
        self.close()
        remove(self.folder)
        self.lock.release()


def remove(folder: Path) -> None:
    """Delete a journal: its events first, so that a half-deleted one is none."""
    (folder / EVENTS).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def read(folder: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The complete events after byte `offset`, and the offset behind them.

    A last line without its end is left for the next time; a line that is no JSON (a crash of the machine) is left out.
    """
    try:
        with open(folder / EVENTS, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    return list(_parsed(whole)), offset + len(whole)


def _parsed(data: bytes) -> Iterator[Event]:
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "kind" in event:
            yield event


def waiting(root: Path | None = None) -> list[Path]:
    """The folders of all journals, the earliest run first."""
    base = root or home("journal")
    folders = [folder for folder in base.iterdir() if (folder / EVENTS).is_file()] if base.is_dir() else []
    return sorted(folders, key=lambda folder: (_begun(folder), folder.name))


def _begun(folder: Path) -> float:
    try:
        with open(folder / EVENTS, "rb") as file:
            return float(json.loads(file.readline())["run"]["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf
