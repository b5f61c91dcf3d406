"""Where kdfuse keeps its state, and files that are never half written."""

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working directory) with a `pyproject.toml` or `.git`.

    Without one, `start` itself.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").exists() or (folder / ".git").exists():
            return folder
    return here


def home(*parts: str) -> Path:
    """A path under `KDFUSE_HOME`, by default `.kdfuse/` in the project's root. Nothing is created."""
    given = os.environ.get("KDFUSE_HOME")
    base = Path(given).expanduser().resolve() if given else project_root() / ".kdfuse"
    return base.joinpath(*parts)


FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}


def mend(error: BaseException, place: str | os.PathLike[str]) -> str:
    """What to do about an error that a full disk made, as a sentence after a space; nothing for another error.

    Args:
        error: what was raised.
        place: the file or folder that was written to.
    """
    if not isinstance(error, OSError) or not (error.errno in FULL or "No space left" in str(error)):
        return ""
    return f" Make room on the disk of {os.fspath(place)} (or lift the limit on the size of files there), or write elsewhere."


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and takes the place of `path`.

    Whatever goes wrong, also a full disk, leaves an earlier file at `path` as it was.

    Example:
        with atomic("student.keras") as temporary:
            model.save(temporary)
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The whole name stays at the end: some writers look at it (`.weights.h5`). No mkstemp: its files are for their owner alone.
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}-{target.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if advice := mend(error, target.parent):
            error.add_note(f"{target} was not written; an earlier file there is as it was.{advice}")
        raise


def write_atomic(path: str | os.PathLike[str], write: bytes | Callable[[Path], object]) -> Path:
    """Write bytes, or what `write(temporary_path)` writes, to `path` in one step."""
    with atomic(path) as temporary:
        if isinstance(write, bytes):
            temporary.write_bytes(write)
        else:
            write(temporary)
    return Path(path)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # some network file systems refuse; the file itself is in place
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
