"""Every test: no tracking unless it asks for it, state in a temporary folder, real data where a folder has it."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if "KDFUSE_DATA" not in os.environ and SHARED_DATA.is_dir():
    os.environ["KDFUSE_DATA"] = str(SHARED_DATA)


@pytest.fixture(autouse=True)
def private_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path_factory.mktemp("kdfuse-home")))
    monkeypatch.setenv("KDFUSE_TRACKING", "off")
