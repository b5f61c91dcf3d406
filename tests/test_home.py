"""kdfuse.home: where the state lives, and files that are never half written."""

import contextlib
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdfuse.home import atomic, home, mend, project_root, write_atomic


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes in the block: a real cause of writes that fail half way."""
    resource = pytest.importorskip("resource", reason="Windows has no limit on the size of files")
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def test_home_is_the_folder_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path / "state"))
    assert home() == tmp_path / "state"
    assert home("a", "b.txt") == tmp_path / "state" / "a" / "b.txt"
    assert not home().exists()


def test_home_knows_the_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KDFUSE_HOME", "~/state")
    assert home() == tmp_path / "state"


@pytest.mark.parametrize("marker", ["pyproject.toml", ".git"])
@pytest.mark.parametrize("given", ["", None])
def test_without_a_setting_home_is_in_the_projects_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, marker: str, given: str | None
) -> None:
    if given is None:
        monkeypatch.delenv("KDFUSE_HOME")
    else:
        monkeypatch.setenv("KDFUSE_HOME", given)
    (tmp_path / marker).touch()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert home() == tmp_path / ".kdfuse"


def test_the_nearest_project_counts(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "deep").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (inner / "pyproject.toml").touch()
    assert project_root(inner / "deep") == inner


def test_atomic_replaces_the_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "model.keras"
    with atomic(target) as temporary:
        assert temporary.parent == target.parent
        temporary.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with atomic(target) as temporary:
        temporary.write_text("two")
        assert target.read_text() == "one"
    assert target.read_text() == "two"
    assert os.listdir(target.parent) == ["model.keras"]


@pytest.mark.parametrize("name", ["student.weights.h5", "v1.2.keras", "plain", ".hidden"])
def test_the_temporary_name_ends_as_the_files_own(tmp_path: Path, name: str) -> None:
    with atomic(tmp_path / name) as temporary:
        assert temporary.name.endswith(name)
        temporary.touch()
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(type(error)), atomic(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_full_disk_at_the_flush_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_disk_without_room_leaves_the_old_file_and_says_what_to_mend(tmp_path: Path) -> None:
    target = write_atomic(tmp_path / "file.txt", b"old")
    with limited(1000), pytest.raises(OSError, match="File too large") as raised:
        write_atomic(target, bytes(5000))
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["file.txt"]
    (note,) = raised.value.__notes__
    assert "an earlier file there is as it was" in note and f"Make room on the disk of {tmp_path}" in note


def test_only_a_full_disk_is_mended_by_making_room(tmp_path: Path) -> None:
    assert "Make room" in mend(OSError("Can't write data (No space left on device)"), tmp_path)  # as h5py says it
    assert mend(PermissionError(errno.EACCES, "no"), tmp_path) == mend(ValueError("No space left"), tmp_path) == ""


def test_a_writer_that_writes_nothing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError):
        write_atomic(target, lambda path: None)
    assert target.read_text() == "old"


def test_the_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_atomic(tmp_path / "ours", b"x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_folder_that_cannot_be_flushed_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    assert write_atomic(tmp_path / "file.txt", b"new").read_bytes() == b"new"


def test_write_atomic_takes_bytes_or_a_writer(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "bytes", b"abc").read_bytes() == b"abc"
    assert write_atomic(str(tmp_path / "text"), lambda path: path.write_text("abc")).read_text() == "abc"


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    script = (
        "import os, signal, sys\nfrom kdfuse.home import atomic\n"
        "with atomic(sys.argv[1]) as path:\n    path.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(target)], cwd=Path(__file__).parents[1], check=False)
    assert done.returncode != 0
    assert target.read_text() == "old"
