"""The journal of a run: every event as one line of JSON on disk, before anything is sent.

A journal is a folder `KDFUSE_HOME/journal/<run id>` with `events.jsonl`, the files and the model of the run, and a lock
that its process holds while the run is open or being sent. It is deleted when MLflow has the whole run.
"""

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

from kdfuse.home import home
from kdfuse.tracking.lock import FileLock

EVENTS = "events.jsonl"
FLUSH_SECONDS = 0.5
RESERVE = 32 * 1024
"""Bytes kept free for the last event of a run, should the disk be full by then."""

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
        self._length = os.fstat(self._descriptor).st_size
        self._flushed = 0.0
        self._copied = 0
        with contextlib.suppress(OSError):
            # Random, for some file systems keep no room for zeros.
            (self.folder / "reserve").write_bytes(os.urandom(RESERVE))

    def write(self, event: Event, *, flush: bool = False) -> None:
        """Append an event. It outlives a killed process at once, and a crash of the machine within half a second of events.

        Args:
            event: with a `"kind"`; JSON values.
            flush: wait until the disk has it.

        Raises:
            OSError: the disk is full, say. The events before it stay whole.
        """
        if self._descriptor is None:
            raise ValueError(f"The journal {self.folder} is closed.")
        line = json.dumps(event, default=str).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            now = time.monotonic()
            if flush or now - self._flushed >= FLUSH_SECONDS:
                os.fsync(self._descriptor)
                self._flushed = now
        except OSError:
            os.ftruncate(self._descriptor, self._length)  # half a line would spoil the next one
            raise
        self._length += len(line)

    def finish(self, event: Event, short: Callable[[], Event]) -> None:
        """Append the last event; where the disk has no room for it, what `short` makes, for which room was kept."""
        try:
            self.write(event, flush=True)
        except OSError:
            (self.folder / "reserve").unlink(missing_ok=True)
            self.write(short(), flush=True)

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


def waiting(root: Path | None = None, without: Container[Path] = ()) -> list[Path]:
    """The folders of all journals but those in `without`, the earliest run first."""
    base = root or home("journal")
    folders = [one for one in base.iterdir() if one not in without and (one / EVENTS).is_file()] if base.is_dir() else []
    return sorted(folders, key=lambda folder: (_begun(folder), folder.name))


def first(folder: Path) -> Event:
    """The event that a journal begins with.

    Raises:
        OSError, ValueError: it has none that is whole.
    """
    with open(folder / EVENTS, "rb") as file:
        event = json.loads(file.readline())
    if not isinstance(event, dict):
        raise ValueError(f"{folder} does not begin with an event.")
    return event


def _begun(folder: Path) -> float:
    try:
        return float(first(folder)["run"]["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf
