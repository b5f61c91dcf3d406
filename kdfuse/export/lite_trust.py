"""Whether a `.tflite` file may be run in this process: LiteRT ends the process on some damaged files instead of raising.

Files written here end in a seal, 40 bytes behind the model that LiteRT does not read: any changed byte is found. Other files are
tried once in a process of their own.
"""

import contextlib
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

MARK = b"kdfuse\0\1"
LENGTH = len(MARK) + hashlib.sha256().digest_size
TRIAL = (
    "import sys\nfrom ai_edge_litert.interpreter import Interpreter\n"
    "try:\n    one = Interpreter(model_path=sys.argv[1])\n    one.allocate_tensors()\n    one.invoke()\nexcept Exception:\n    pass\n"
    "print('alive')"
)


def seal(data: bytes) -> bytes:
    """The model with a checksum behind it; a seal that it has is replaced."""
    bare = unsealed(data)
    return bare + MARK + hashlib.sha256(bare).digest()


def unsealed(data: bytes) -> bytes:
    """The model without its seal."""
    return data[:-LENGTH] if is_sealed(data) else data


def is_sealed(data: bytes) -> bool:
    """Whether there is a seal, broken or not."""
    return data[-LENGTH : -LENGTH + len(MARK)] == MARK


def is_whole(data: bytes) -> bool | None:
    """Whether the seal fits the model; None without a seal."""
    return hashlib.sha256(data[:-LENGTH]).digest() == data[-LENGTH + len(MARK) :] if is_sealed(data) else None


def survives(data: bytes) -> bool:
    """Whether a process of its own runs the model on zeros without being ended by it (about half a second).

    True also where no process can be started, and for a model that raises: it will raise here too.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(data)
        with contextlib.suppress(OSError):
            done = subprocess.run([sys.executable, "-c", TRIAL, str(path)], capture_output=True, stdin=subprocess.DEVNULL)
            # A negative code is a signal; a Python without the package ends with 1.
            return done.returncode >= 0 or b"alive" in done.stdout
    return True
