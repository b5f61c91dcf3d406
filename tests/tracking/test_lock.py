"""Locks on files."""

import subprocess
import sys
from pathlib import Path

from kdfuse.tracking.lock import FileLock


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire(wait=False)
    assert first.acquire(wait=False), "a holder has it already"
    assert not second.acquire(wait=False)
    first.release()
    with second:
        assert not first.acquire(wait=False)
    assert first.acquire(wait=False)
    first.release()


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    code = f"""
import os
from kdfuse.tracking.lock import FileLock
lock = FileLock({str(tmp_path / "lock")!r})
assert lock.acquire()
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 9
    assert FileLock(tmp_path / "lock").acquire(wait=False)


def test_a_forked_child_does_not_keep_the_lock_of_a_dead_parent(tmp_path: Path) -> None:
    code = f"""
import os, sys
from kdfuse.tracking.lock import FileLock
lock = FileLock({str(tmp_path / "lock")!r})
lock.acquire()
if os.fork() == 0:
    print("child", flush=True)
    sys.stdin.readline()
    os._exit(0)
sys.stdin.readline()
os._exit(9)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None and parent.stdout is not None
    assert parent.stdout.readline() == "child\n"
    lock = FileLock(tmp_path / "lock")
    assert not lock.acquire(wait=False), "the child's start must not free it"
    parent.kill()
    parent.wait()
    assert lock.acquire(wait=False), "the living child must not hold it"
    parent.stdin.close()
