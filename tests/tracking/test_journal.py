"""The journal on disk."""

import os
from pathlib import Path

import pytest

from kdfuse.tracking import journal
from kdfuse.tracking.journal import RESERVE, Journal, read, waiting
from kdfuse.tracking.lock import FileLock
from tests.test_home import limited


def events(number: int) -> list[dict[str, object]]:
    return [{"kind": "log", "step": step, "values": {"a": step / 3}} for step in range(number)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = Journal("r", tmp_path)
    for event in events(3):
        made.write(event)
    first, offset = read(made.folder)
    assert first == events(3)
    made.write({"kind": "end", "text": "üñ\nline"})
    assert read(made.folder, offset)[0] == [{"kind": "end", "text": "üñ\nline"}]
    made.close()
    with pytest.raises(ValueError, match="closed"):
        made.write({"kind": "log"})


def test_a_truncated_last_line_waits_and_rubbish_is_left_out(tmp_path: Path) -> None:
    made = Journal("r", tmp_path)
    made.write({"kind": "log", "step": 0})
    with open(made.folder / journal.EVENTS, "ab") as file:
        file.write(b'\x00\x00\n[1]\n{"kind": "log", "st')
    found, offset = read(made.folder)
    assert found == [{"kind": "log", "step": 0}]
    with open(made.folder / journal.EVENTS, "ab") as file:
        file.write(b'ep": 1}\n')
    assert read(made.folder, offset)[0] == [{"kind": "log", "step": 1}]


def test_files_and_folders_are_copied(tmp_path: Path) -> None:
    made = Journal("r", tmp_path / "journal")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("1")
    first, second = made.keep(tmp_path / "a" / "x.txt"), made.keep(tmp_path / "a")
    (tmp_path / "a" / "x.txt").unlink()
    assert (made.folder / first).read_text() == "1"
    assert (made.folder / second / "x.txt").read_text() == "1"


def test_it_is_locked_until_released_and_goes_when_removed(tmp_path: Path) -> None:
    made = Journal("r", tmp_path)
    made.write({"kind": "start", "run": {"started": 2.0}})
    assert not FileLock(made.folder / "lock").acquire(wait=False)
    made.release()
    assert FileLock(made.folder / "lock").acquire(wait=False)
    assert waiting(tmp_path) == [made.folder]
    made.remove()
    assert not made.folder.exists() and waiting(tmp_path) == []


def test_the_earliest_run_comes_first(tmp_path: Path) -> None:
    for name, begun in (("b", 3.0), ("a", 5.0), ("c", 1.0)):
        made = Journal(name, tmp_path)
        made.write({"kind": "start", "run": {"started": begun}})
        made.release()
    assert [folder.name for folder in waiting(tmp_path)] == ["c", "b", "a"]


def test_an_event_is_in_the_file_before_the_call_returns(tmp_path: Path) -> None:
    made = Journal("r", tmp_path)
    sizes = []
    for event in events(3):
        made.write(event)
        sizes.append(os.path.getsize(made.folder / journal.EVENTS))
    assert sizes[0] > 0 and sizes == sorted(set(sizes))


def test_an_event_that_does_not_fit_leaves_those_around_it_whole(tmp_path: Path) -> None:
    journal = Journal("a", tmp_path)
    journal.write({"kind": "start"})
    with limited(5000), pytest.raises(OSError, match="File too large"):
        journal.write({"kind": "log", "values": "x" * 6000})
    journal.write({"kind": "log", "values": "after"})
    events, _ = read(journal.folder)
    assert events == [{"kind": "start"}, {"kind": "log", "values": "after"}]
    journal.remove()


def test_the_last_event_comes_short_where_it_does_not_fit(tmp_path: Path) -> None:
    journal = Journal("a", tmp_path)
    journal.finish({"kind": "end", "report": "whole"}, lambda: {})
    assert (journal.folder / "reserve").stat().st_size == RESERVE
    with limited(5000):
        journal.finish({"kind": "end", "report": "x" * 6000}, lambda: {"kind": "end", "report": "short"})
    assert [event["report"] for event in read(journal.folder)[0]] == ["whole", "short"]
    assert not (journal.folder / "reserve").exists(), "what was kept for it is given back"
    journal.remove()
