"""An experiment with real runs, recorded once, and another of made-up figures for each test."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kdfuse import recording
from kdfuse.recording import Run
from kdfuse.report import Report
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.sender import sender

Add = Callable[..., Report]


def report_of(run: Run, metrics: Mapping[str, float], **more: Any) -> Report:
    return Report(run.technique, dict(run.settings), dict(metrics), name=run.name, seconds=1.5, **more)


@pytest.fixture
def add(database: str) -> Iterator[Add]:
    """Record a run of the experiment `made up`: its name, figures, settings, and what else its report has."""

    def record(name: str, metrics: Mapping[str, float], settings: Mapping[str, Any] | None = None, technique: str = "Train",
               key: str | None = None, tags: Mapping[str, str] | None = None, **more: Any) -> Report:  # fmt: skip
        with recording.run(name, technique, settings, key, tags) as run:
            run.report = report_of(run, metrics, **more)
        return run.report

    with recording.use(MlflowRecorder("made up")):
        yield record
    sender().wait()


@pytest.fixture(scope="session")
def digits_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A KDFUSE_HOME with the experiment `digits`: teachers and students over two seeds, a repeat, a chain."""
    import kdfuse as kf

    folder = tmp_path_factory.mktemp("digits-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDFUSE_HOME", str(folder))
        patch.setenv("KDFUSE_TRACKING", "on")
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KDFUSE_EXPERIMENT"):
            patch.delenv(name, raising=False)
        latency = __import__("kdfuse.measure.latency", fromlist=["SECONDS"])
        patch.setattr(latency, "SECONDS", 0.0)
        data = kf.datasets.load("digits", labels=300)
        with recording.use(MlflowRecorder()), kf.track("digits", run="small"):
            for seed in (0, 1):
                training = kf.Train(epochs=2, seed=seed)
                teacher, _ = training(kf.models.mlp(data, units=(60,), seed=seed), data, name="teacher")
                student, _ = kf.Distill(teacher, training=training)(
                    kf.models.mlp(data, units=(12,), seed=seed), data, name=f"student {seed}"
                )
            kf.repeat(kf.Train(epochs=2), (3, 4))(kf.models.mlp, data)
            few = kf.Train(epochs=1)
            kf.Chain([kf.Prune(0.5, training=few), kf.Cluster(8, training=None)])(student, data, name="chain")
        sender().wait()
    return folder


@pytest.fixture
def digits(digits_home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an experiment with real runs, in the home that is in force."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KDFUSE_EXPERIMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KDFUSE_HOME", str(digits_home))
    assert os.environ["KDFUSE_HOME"] == str(digits_home)
    return "digits"
