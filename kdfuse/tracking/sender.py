"""The background thread that sends journals to MLflow while training goes on.

Training only writes its journal. The thread reads it from there, so that what is sent live and what `kdfuse sync` sends
later is the same. Where the store fails, sending stops for the run, a warning is due, and the journal stays.
"""

import atexit
import contextlib
import gc
import os
import threading
import time
import warnings
from collections.abc import Callable

from kdfuse.tracking.journal import Journal
from kdfuse.tracking.store import Destination, Store, shown
from kdfuse.tracking.sweep import Sweep
from kdfuse.tracking.transcript import ParentMissing, Transcript

PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds in which news are gathered into one call: epochs of milliseconds do not become as many calls."""
SHARE = 0.01
"""The share of the time that sending shall compute beside training: after a dear call, news are gathered for longer."""
START_PATIENCE = 5.0
"""Seconds that the first run waits for MLflow to be loaded and its store opened. Done beside training it costs more: the
two contend for Python's lock, and every step of the first epochs is slow."""
AWAY = 60.0
"""Seconds after which a store that failed is tried again, by a new run."""
LOCAL_PATIENCE, REMOTE_PATIENCE = 30.0, 3.0
"""Seconds that the end of the process waits for a store that has not failed."""
SWEEP_PATIENCE = 3.0
"""Seconds that the end of the process waits for what processes before it left, at most."""


class _Entry:
    def __init__(self, journal: Journal, transcript: Transcript, uri: str) -> None:
        self.journal = journal
        self.transcript = transcript
        self.uri = uri
        self.ended = False
        self.failed = False
        self.begun = threading.Event()
        self.settled = threading.Event()


class Sender:
    """Sends the journals of this process, one thread for all of them."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._news: dict[str, None] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._thread: threading.Thread | None = None
        self._stores: dict[Destination, Store] = {}
        self._away: dict[str, float] = {}
        self._complaint: str | None = None
        self._complained: set[str] = set()
        self._sweep = Sweep(self._reach)
        self._leaving = False

    def open(self, run_id: str, journal: Journal, destination: Destination) -> None:
        """Take charge of a journal whose first event is written."""
        entry = self._entries[run_id] = _Entry(journal, Transcript(journal.folder, self._store), destination.uri)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="kdfuse-sender", daemon=True)
            self._thread.start()
            _at_exit(self.flush)
        self.news(run_id, urgent=True)
        if destination not in self._stores:
            entry.begun.wait(START_PATIENCE)

    def news(self, run_id: str, *, urgent: bool = False) -> None:
        """Say that a journal has new events."""
        with self._lock:
            self._news[run_id] = None
        if urgent:
            self._urgent.set()
        self._wake.set()

    def close(self, run_id: str, patience: float) -> bool:
        """Say that a journal has its last event, and wait for it to be sent.

        Args:
            run_id: the run.
            patience: seconds to wait at most.

        Returns:
            Whether MLflow has the whole run. If not, the thread goes on, or the journal waits for `kdfuse sync`.
        """
        entry = self._entries.get(run_id)
        if entry is None:
            return True
        with self._lock:
            entry.ended = True
            failed = entry.failed
        if failed:
            self._leave(run_id, entry)
            return False
        self.news(run_id, urgent=True)
        return entry.settled.wait(patience) and not entry.failed

    def complain(self) -> None:
        """Give the warning that is due, if one is: in the thread that trains, where warnings belong to the user's filters."""
        complaint, self._complaint = self._complaint, None
        if complaint is not None:
            warnings.warn(complaint, RuntimeWarning, stacklevel=5)

    def wait(self) -> int:
        """Wait shortly until MLflow has all runs that ended; how many it has not."""
        left = 0
        begun = time.monotonic()
        for run_id, entry in list(self._entries.items()):
            if entry.ended and not entry.failed:
                patience = LOCAL_PATIENCE if entry.uri.startswith("sqlite") else REMOTE_PATIENCE
                self.news(run_id, urgent=True)
                left += not entry.settled.wait(max(begun + patience - time.monotonic(), 0.0))
        return left

    def flush(self) -> None:
        """At the end of the process: wait for what is still being sent, and say what is left."""
        with contextlib.suppress(KeyboardInterrupt):
            left = self.wait()
            if left and not self._complained:
                self._complaint = f"MLflow has not received {left} run(s) yet. Their events are kept; `kdfuse sync` sends the rest."
            self.complain()
            self._leaving = True
            self._urgent.set()
            end = time.monotonic() + SWEEP_PATIENCE
            while self._sweep.left and not left and time.monotonic() < end:
                time.sleep(0.01)

    def _work(self) -> None:
        pause = PAUSE
        while True:
            if not self._sweep.left:
                self._wake.wait()
            hurried = self._urgent.wait(0.0 if self._leaving else pause)
            begun = time.thread_time()
            self._wake.clear()
            self._urgent.clear()
            with self._lock:
                news, self._news = list(self._news), {}
            opening = False
            for run_id in news:
                entry = self._entries.get(run_id)
                if entry is not None and not entry.failed:
                    new = not entry.begun.is_set()
                    opening = opening or new
                    self._send(run_id, entry)
                    entry.begun.set()
                    if new and not entry.failed:
                        self._sweep.look(entry.uri)
            if self._leaving or not (opening or hurried):
                self._sweep.step()
            # To open a run costs more than an epoch's figures, and comes once.
            pause = PAUSE if opening else min(max((time.thread_time() - begun) / SHARE, PAUSE), LONGEST_PAUSE)

    def _send(self, run_id: str, entry: _Entry) -> None:
        try:
            self._check(entry.uri)
            ended = entry.ended
            whole = entry.transcript.catch_up()
            if ended and not whole:  # the disk had no room for its last event
                entry.transcript.abandon()
            if ended or whole:
                entry.journal.remove()
                self._entries.pop(run_id, None)
                entry.settled.set()
        except ParentMissing:
            self._fail(run_id, entry)
        except Exception as error:
            self._stores = {destination: store for destination, store in self._stores.items() if destination.uri != entry.uri}
            self._away.setdefault(entry.uri, 0.0)
            if time.monotonic() >= self._away[entry.uri]:
                self._away[entry.uri] = time.monotonic() + AWAY
            if entry.uri not in self._complained:
                self._complained.add(entry.uri)
                self._complaint = (
                    f"MLflow at {shown(entry.uri)} does not answer: {_reason(error)} Training goes on; the events are kept in "
                    f"{entry.journal.folder.parent}. `kdfuse sync` sends them later."
                )
            self._fail(run_id, entry)

    def _fail(self, run_id: str, entry: _Entry) -> None:
        with self._lock:
            entry.failed = True
            ended = entry.ended
        if ended:
            self._leave(run_id, entry)
        entry.settled.set()

    def _leave(self, run_id: str, entry: _Entry) -> None:
        """The journal is whole and stays: whoever syncs may have it."""
        self._entries.pop(run_id, None)
        entry.journal.release()

    def _check(self, uri: str) -> None:
        if time.monotonic() < self._away.get(uri, 0.0):
            raise ConnectionError("The store failed a moment ago.")

    def _reach(self, destination: Destination) -> Store:
        self._check(destination.uri)
        return self._store(destination)

    def _store(self, destination: Destination) -> Store:
        if destination not in self._stores:
            self._stores[destination] = Store(destination)
            # MLflow brings half a million objects. Python would look through all of them in the first epochs: 0.4 s.
            gc.collect()
        return self._stores[destination]


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 200 else text[:200] + '…'}."


def _at_exit(function: Callable[[], None]) -> None:
    # Before the thread pools end, which MLflow needs for uploads; `atexit` alone comes after them.
    register = getattr(threading, "_register_atexit", atexit.register)
    with contextlib.suppress(RuntimeError):
        register(function)


_sender: list[Sender] = []


def sender() -> Sender:
    """The sender of this process."""
    if not _sender:
        _sender.append(Sender())
    return _sender[0]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sender.clear)
