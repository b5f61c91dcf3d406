"""What a run ran on: versions, the commit of the user's project, the device."""

import contextlib
import functools
import getpass
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("kdfuse", "keras", "tensorflow", "mlflow", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that matter, by name."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name == "kdfuse":
                from kdfuse import __version__

                found[name] = __version__
    return found


@functools.cache
def commit(folder: Path) -> str | None:
    """The git commit of `folder`, or None where there is none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=2, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def device() -> str | None:
    """One line on the device; None while TensorFlow is not loaded, for nothing but this line would load it."""
    if "tensorflow" not in sys.modules:
        return None
    from kdfuse.runtime import describe

    with contextlib.suppress(Exception):
        return describe()
    return None


def tags() -> dict[str, str]:
    """The tags that every run gets at its start."""
    found = {f"version.{name}": text for name, text in versions().items()}
    found["mlflow.source.name"] = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    found["mlflow.source.type"] = "LOCAL"
    found["kdfuse.host"] = platform.node()
    with contextlib.suppress(OSError, KeyError, ImportError):
        found["mlflow.user"] = getpass.getuser()
    revision = commit(Path.cwd())
    if revision is not None:
        found["mlflow.source.git.commit"] = revision
    return found
