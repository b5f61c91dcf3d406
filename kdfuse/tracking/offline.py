"""`kdfuse sync`: sends the journals that MLflow has not received in full."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from kdfuse.home import home
from kdfuse.tracking import journal
from kdfuse.tracking.lock import FileLock
from kdfuse.tracking.store import Destination, Store, anchored, artifacts_for, shown
from kdfuse.tracking.transcript import Transcript


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one journal.

    Attributes:
        run_id: the run.
        name: its name.
        state: `"sent"`; `"open"`: its process is at it; `"waits"`: its parent must be sent first; `"failed"`.
        detail: why it failed.
    """

    run_id: str
    name: str
    state: str
    detail: str = ""


def sync(uri: str | None = None, *, tell: Callable[[Outcome], None] | None = None) -> list[Outcome]:
    """Send every waiting journal to MLflow with its original times, parents first. Doing it again changes nothing.

    Runs whose process died end as `KILLED`. Runs that are going on are left alone.

    Args:
        uri: where to; by default where each run was meant to go.
        tell: called with each outcome as it comes.

    Returns:
        One outcome a journal.
    """
    base = home("journal")
    if not base.is_dir():
        return []
    outcomes: list[Outcome] = []
    stores: dict[Destination, Store | Exception] = {}

    def store(destination: Destination) -> Store:
        if uri is not None:
            where = anchored(uri)
            destination = Destination(where, destination.experiment, artifacts_for(where))
        if destination not in stores:
            try:
                stores[destination] = Store(destination, patient=True)
            except Exception as error:
                stores[destination] = error
        opened = stores[destination]
        if isinstance(opened, Exception):
            raise opened
        return opened

    with FileLock(base / "sync.lock"):
        for folder in journal.waiting(base):
            outcome = send(folder, store)
            if outcome is not None:
                outcomes.append(outcome)
                if tell is not None:
                    tell(outcome)
    return outcomes


def send(folder: Path, store: Callable[[Destination], Store]) -> Outcome | None:
    """Send one journal and remove it, unless its process is at it; None where it is gone meanwhile."""
    lock = FileLock(folder / "lock")
    events, _ = journal.read(folder)
    first = events[0] if events else {}
    run = first.get("run", {"id": folder.name, "name": folder.name, "parent": None})
    try:
        if not lock.acquire(wait=False):
            return Outcome(run["id"], run["name"], "open")
    except FileNotFoundError:
        return None
    try:
        if not (folder / journal.EVENTS).exists():
            return None
        if first.get("kind") != "start":
            return Outcome(run["id"], run["name"], "failed", "its journal has no beginning")
        if run["parent"] is not None and (folder.parent / run["parent"] / journal.EVENTS).exists():
            return Outcome(run["id"], run["name"], "waits")
        transcript = Transcript(folder, store, orphans=True)
        if not transcript.catch_up():
            transcript.abandon()
        journal.remove(folder)
        return Outcome(run["id"], run["name"], "sent")
    except Exception as error:
        detail = " ".join(str(error).split())
        return Outcome(run["id"], run["name"], "failed", shown(f"{type(error).__name__}: {detail[:300]}"))
    finally:
        lock.release()


def pending() -> tuple[int, int]:
    """How many journals belong to runs that are going on, and how many wait for `sync`."""
    going_on = left = 0
    for folder in journal.waiting():
        lock = FileLock(folder / "lock")
        if lock.acquire(wait=False):
            left += 1
            lock.release()
        else:
            going_on += 1
    return going_on, left
