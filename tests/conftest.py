"""Every test: no tracking unless it asks for it, state in a temporary folder, real data where a folder has it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if "KDFUSE_DATA" not in os.environ and SHARED_DATA.is_dir():
    os.environ["KDFUSE_DATA"] = str(SHARED_DATA)


@pytest.fixture(autouse=True, scope="module")
def brief_timing(request: pytest.FixtureRequest) -> Iterator[None]:
    """A model is timed three times, not 200 times: how it is timed is the matter of tests/measure/test_latency.py alone."""
    latency = sys.modules.get("kdfuse.measure.latency")  # a test without TensorFlow stays without it
    with pytest.MonkeyPatch.context() as patch:
        if latency is not None and request.path.name != "test_latency.py":
            patch.setattr(latency, "SECONDS", 0.0)
        yield


@pytest.fixture(autouse=True)
def private_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path_factory.mktemp("kdfuse-home")))
    monkeypatch.setenv("KDFUSE_TRACKING", "off")
