"""SIGTERM as an ordinary end: while a run is open, it raises `SystemExit`, so that the run ends as killed.

Only in the main thread, only where the program has no handler of its own, and only as long as a run is open.
"""

import signal
import threading
from types import FrameType
from typing import NoReturn

_open: set[str] = set()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def watch(run_id: str) -> None:
    """A run begins."""
    _open.add(run_id)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def unwatch(run_id: str) -> None:
    """A run is over."""
    _open.discard(run_id)
    if not _open and threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
