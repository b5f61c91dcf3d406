"""The state of a paused trial, on its way between machines that share no files."""

import contextlib
import io
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from kdfuse.home import home, write_atomic
from kdfuse.keys import state_folder


@contextlib.contextmanager
def sign() -> Iterator[Path]:
    """A file in this process's `KDFUSE_HOME`: whoever sees it shares that folder. Missing where nothing can be written."""
    path = home("signs", uuid.uuid4().hex)
    with contextlib.suppress(OSError):
        write_atomic(path, b"")
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def pack(key: str | None) -> bytes | None:
    """The checkpoints of a run as bytes; None where it has none."""
    found = sorted(state_folder(key).rglob("*.ckpt")) if key is not None else []
    if not found or key is None:
        return None
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        for path in found:
            archive.add(path, path.relative_to(state_folder(key)).as_posix())
    return memory.getvalue()


def unpack(key: str, packed: bytes) -> None:
    """Put checkpoints where the run looks for them, in place of those there; a file is there whole or not at all.

    Raises:
        ValueError: one of them would be outside the run's folder.
    """
    arrived = set()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            target = (state_folder(key) / member.name).resolve()
            if content is None or not target.is_relative_to(state_folder(key).resolve()):
                raise ValueError(f"A checkpoint that was sent is not a file of its run: {member.name!r}.")
            write_atomic(target, content.read())
            arrived.add(target)
    for old in state_folder(key).resolve().rglob("*.ckpt"):
        if old not in arrived:
            old.unlink()
