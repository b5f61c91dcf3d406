"""A real SQLite store for each test, copied from one that is made once: making the tables takes more than a second."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdfuse import recording
from kdfuse.home import home
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.sender import sender
from kdfuse.tracking.store import Destination, Store

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    store = Store(Destination(f"sqlite:///{path}", "unused"))
    store.client._tracking_client.store._dispose_engine()
    return path


@pytest.fixture
def database(empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of the local store of this test's KDFUSE_HOME."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.delenv("KDFUSE_EXPERIMENT", raising=False)
    monkeypatch.setenv("KDFUSE_TRACKING", "on")
    shutil.copy2(empty_database, home("mlflow.db"))
    return f"sqlite:///{home('mlflow.db')}"


@pytest.fixture
def recorder(database: str) -> Iterator[MlflowRecorder]:
    made = MlflowRecorder("tests")
    with recording.use(made):
        yield made


@pytest.fixture
def runs(database: str) -> Callable[..., dict[str, Any]]:
    """The MLflow runs of a store by their names."""

    def get(uri: str = database) -> dict[str, Any]:
        from mlflow import MlflowClient

        sender().wait()  # where the machine is busy, the end of a run gives up waiting before MLflow has it
        client = MlflowClient(tracking_uri=uri)
        experiments = [found.experiment_id for found in client.search_experiments()]
        found = client.search_runs(experiments)
        assert len({run.info.run_name for run in found}) == len(found), "a run is there twice"
        return {run.info.run_name: run for run in found}

    return get


@pytest.fixture
def curve(database: str) -> Callable[..., list[tuple[int, float]]]:
    """All steps and values of a metric."""

    def get(run: Any, name: str, uri: str = database) -> list[tuple[int, float]]:
        from mlflow import MlflowClient

        return sorted((found.step, found.value) for found in MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, name))

    return get
