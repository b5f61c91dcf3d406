"""What processes that died left behind, sent beside a run that goes on: their runs do not stay `RUNNING` for ever.

A journal whose lock is free belongs to no living process. `kdfuse sync` sends all of them; this sends those of the store that a
new run has just reached, one at a time, so that nobody needs to think of it. Nothing that another call goes on with is touched: a
resumed call is a new run, and what it takes up lies elsewhere in `KDFUSE_HOME`.
"""

import math
import platform
import time
from collections.abc import Callable
from pathlib import Path

from kdfuse.home import home
from kdfuse.tracking import journal
from kdfuse.tracking.lock import FileLock
from kdfuse.tracking.offline import send
from kdfuse.tracking.store import Destination, Store

AGAIN = 60.0
"""Seconds in which a journal that was looked at is not looked at again."""


class Sweep:
    """The journals that are left, for one sender.

    Args:
        store: opens the store of a destination.
    """

    def __init__(self, store: Callable[[Destination], Store]) -> None:
        self._store = store
        self._left: list[Path] = []
        self._seen: dict[Path, float] = {}

    @property
    def left(self) -> int:
        """How many journals `step` has not come to."""
        return len(self._left)

    def look(self, uri: str) -> None:
        """Find what is left for a store. Where nothing is, this is one listing of a folder."""
        now = time.monotonic()
        self._seen = {folder: until for folder, until in self._seen.items() if now < until}
        try:
            found = journal.waiting(without=self._seen)
        except OSError:
            return
        for folder in found:
            self._seen[folder] = now + AGAIN
            if _left(folder, uri):
                self._left.append(folder)

    def step(self) -> None:
        """Send one of them, if there is one and nobody else is at it. What cannot be sent stays for `kdfuse sync`."""
        if not self._left:
            return
        lock = FileLock(home("journal", "sync.lock"))
        try:
            taken = lock.acquire(wait=False)
        except OSError:
            taken = False
        if not taken:
            self._left.clear()  # another process sends them
            return
        folder = self._left[0]
        try:
            outcome = send(folder, self._store)
        finally:
            lock.release()
            del self._left[0]
        if outcome is not None and outcome.state == "failed":
            self._seen[folder] = math.inf
            self._left.clear()  # a store that went away fails the others too: they come with a later look


def _left(folder: Path, uri: str) -> bool:
    """Whether a journal is for this store, of this machine, and of no living process."""
    try:
        first = journal.first(folder)
        if first["destination"]["uri"] != uri or first["tags"].get("kdfuse.host") != platform.node():
            return False
        lock = FileLock(folder / "lock")
        free = lock.acquire(wait=False)
        lock.release()
        return free
    except (OSError, ValueError, KeyError, TypeError):
        return False
