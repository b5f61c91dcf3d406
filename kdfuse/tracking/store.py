"""The MLflow store that runs go to: where it is, and making it exist."""

import contextlib
import dataclasses
import hashlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdfuse.home import home
from kdfuse.tracking.lock import FileLock

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
GONE = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
"""What MLflow says where the experiment of a new run is deleted."""


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where a run goes.

    Attributes:
        uri: MLflow's tracking URI.
        experiment: the experiment's name.
        artifacts: where a new experiment keeps its files; None leaves it to the server.
    """

    uri: str
    experiment: str
    artifacts: str | None = None

    @classmethod
    def current(cls, experiment: str | None = None, uri: str | None = None) -> "Destination":
        """The destination in force: the arguments, else the environment, else the local store of `KDFUSE_HOME`."""
        environment = os.environ.get("KDFUSE_EXPERIMENT") or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        uri = anchored(uri or os.environ.get("MLFLOW_TRACKING_URI") or local_uri())
        return cls(uri, experiment or environment or "kdfuse", artifacts_for(uri))


def local_uri() -> str:
    """The store where none is configured: a database in `KDFUSE_HOME`."""
    return f"sqlite:///{home('mlflow.db').as_posix()}"


def anchored(uri: str) -> str:
    """`uri`, made independent of the working directory where it is a SQLite file."""
    path = sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path.resolve().as_posix()}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite URI."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///(.+)", uri)
    return Path(match[1]) if match and match[1] != ":memory:" and "?" not in match[1] else None


def artifacts_for(uri: str) -> str | None:
    """Where files go beside a database; None for a server, which knows it."""
    if uri.partition(":")[0].partition("+")[0] not in DATABASES:
        return None
    path = sqlite_path(uri)
    # MLflow's own default is ./mlruns of the working directory: it moves with every `cd`.
    return (path.parent / "artifacts" if path is not None else home("artifacts")).as_uri()


def shown(uri: str) -> str:
    """`uri` without its password."""
    return re.sub(r"(://)[^/@]*@", r"\1***@", uri)


class Store:
    """An opened store: a client and the experiment's id.

    Attributes:
        client: an `MlflowClient` of its own; the user's global tracking URI and active run are not touched.
        experiment: the experiment's id.
    """

    def __init__(self, destination: Destination, *, patient: bool = False) -> None:
        """Open the store; make the database and the experiment where they are missing.

        Args:
            destination: where.
            patient: wait for a slow server. Otherwise one retry and ten seconds, unless the environment says else.
        """
        self.destination = destination
        with _one_at_a_time(destination.uri):
            self.client = client(destination.uri, patient=patient)
            self.experiment = self._experiment()
            _write_ahead(destination.uri)

    def _experiment(self) -> str:
        name = self.destination.experiment
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, self.destination.artifacts))
            except Exception:
                # Another process may have made it between the two calls.
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def begin(self, started: int, tags: dict[str, str], name: str) -> Any:
        """A new MLflow run; the experiment is brought back where somebody has deleted it since the store was opened."""
        try:
            return self.client.create_run(self.experiment, started, tags, name)
        except Exception as error:
            if getattr(error, "error_code", "") not in GONE:
                raise
            self.experiment = self._experiment()
            return self.client.create_run(self.experiment, started, tags, name)

    def newest(self) -> str | None:
        """The experiment of the newest run, None where there is no run."""
        known = [experiment.experiment_id for experiment in self.client.search_experiments()]
        found = self.client.search_runs(known, max_results=1, order_by=["attributes.start_time DESC"])
        return str(found[0].info.experiment_id) if found else None

    def find(self, run_id: str) -> Any:
        """The MLflow run of a kdfuse run, or None."""
        found = self.client.search_runs([self.experiment], f"tags.`kdfuse.run_id` = '{run_id}'", max_results=1)
        return found[0] if found else None


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """MLflow's migrations do not stand several processes that meet an empty database: one after the other."""
    if artifacts_for(uri) is None:
        yield
        return
    path = sqlite_path(uri)
    lock = path.with_name(path.name + ".lock") if path else home(f"store-{hashlib.sha256(uri.encode()).hexdigest()[:12]}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield


def _write_ahead(uri: str) -> None:
    """Let readers and writers of our own local database go on side by side: three times the calls with four writers."""
    path = sqlite_path(uri)
    if path is None or uri != local_uri():
        return
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=1)) as connection:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode=WAL")


@contextlib.contextmanager
def quiet(*names: str, level: int = logging.WARNING) -> Iterator[None]:
    """Only warnings (or `level`) and worse from these loggers: MLflow reports each migration of a new database."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, earlier in zip(loggers, before, strict=True):
            logger.setLevel(earlier)


def client(uri: str, *, patient: bool = False) -> Any:
    """An `MlflowClient` that does not wait for minutes on a dead server, as MLflow's own settings do."""
    if uri.startswith("http"):
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2" if patient else "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60" if patient else "10")
    from mlflow import MlflowClient

    with quiet("mlflow", "alembic"):
        return MlflowClient(tracking_uri=uri)


def count_runs(uri: str) -> int | None:
    """How many runs a store has; None where its database does not exist yet."""
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return None
    asked = client(uri)
    experiments = [found.experiment_id for found in asked.search_experiments()]
    count, token = 0, None
    while experiments:
        page = asked.search_runs(experiments, max_results=5000, page_token=token)
        count, token = count + len(page), page.token
        if not token:
            break
    return count
