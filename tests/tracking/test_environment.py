"""What a run ran on."""

import platform
import subprocess
import sys
from pathlib import Path

import keras

from kdfuse.tracking import environment


def test_versions() -> None:
    found = environment.versions()
    assert found["python"] == platform.python_version() and found["keras"] == keras.__version__ and found["kdfuse"]


def test_commit(tmp_path: Path) -> None:
    assert environment.commit(tmp_path / "nothing") is None
    assert environment.commit(tmp_path) is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path / "repository")]
    (tmp_path / "repository").mkdir()
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    made = environment.commit(tmp_path / "repository")
    assert made == subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()


def test_device_does_not_load_tensorflow() -> None:
    code = (
        "import sys; from kdfuse.tracking import environment; environment.tags(); print(environment.device(), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "None False"


def test_device_with_tensorflow() -> None:
    assert "Keras" in (environment.device() or "")
