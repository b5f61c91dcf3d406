"""The recorder that writes runs to MLflow, through a journal."""

import contextlib
import dataclasses
import io
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdfuse.recording import Recorder, Run, Status
from kdfuse.report import Report
from kdfuse.tracking import environment, models, signals
from kdfuse.tracking.journal import RESERVE, Journal, read, waiting
from kdfuse.tracking.sender import sender
from kdfuse.tracking.store import Destination, Store, sqlite_path

PATIENCE = 2.9
"""Seconds that closing a run takes at most, the saving of an ordinary model included."""


@dataclasses.dataclass
class _Open:
    journal: Journal
    destination: Destination
    models: int = 0
    saving: float = 0.0
    device: bool = False


class MlflowRecorder(Recorder):
    """Records runs in MLflow.

    Every event is on disk before it is sent, so that neither a killed process nor a dead server loses any. Sending is
    done by a thread; MLflow's global tracking URI and active run are not touched.
    """

    def __init__(self, experiment: str | None = None, uri: str | None = None) -> None:
        """Record in an experiment of a store.

        Args:
            experiment: its name; by default `KDFUSE_EXPERIMENT`, `MLFLOW_EXPERIMENT_NAME`, or `"kdfuse"`.
            uri: MLflow's tracking URI; by default `MLFLOW_TRACKING_URI`, or a SQLite database in `KDFUSE_HOME`.
        """
        self.experiment = experiment
        self.uri = uri
        self._runs: dict[str, _Open] = {}

    def start(self, run: Run) -> None:
        signals.watch(run.id)
        parent = self._runs.get(run.parent.id) if run.parent is not None else None
        destination = parent.destination if parent else Destination.current(self.experiment, self.uri)
        tags = {**environment.tags(), "kdfuse.run_id": run.id, "kdfuse.technique": run.technique, **run.tags}
        if run.key is not None:
            tags["kdfuse.key"] = run.key
        device = environment.device()
        if device is not None:
            tags["kdfuse.device"] = device
        opened = _Open(Journal(run.id), destination, device=device is not None)
        self._runs[run.id] = opened
        event = {
            "kind": "start",
            "run": {
                "id": run.id,
                "name": run.name,
                "technique": run.technique,
                "parent": run.parent.id if parent is not None and run.parent is not None else None,
                "started": run.started,
            },
            "settings": dict(run.settings),
            "tags": tags,
            "destination": dataclasses.asdict(destination),
            "process": os.getpid(),
            "moment": run.started,
        }
        try:
            opened.journal.write(event, flush=True)
        except OSError:
            opened.journal.remove()
            del self._runs[run.id]
            raise
        sender().open(run.id, opened.journal, destination)
        sender().complain()

    def log(self, run: Run, values: Mapping[str, float], step: int | None, moment: float) -> None:
        figures = {name: _scalar(value) for name, value in values.items()}
        self._write(run, {"kind": "log", "values": figures, "step": None if step is None else int(step), "moment": moment})

    def tag(self, run: Run, tags: Mapping[str, str]) -> None:
        self._write(run, {"kind": "tag", "tags": {key: str(value) for key, value in tags.items()}, "moment": time.time()})

    def file(self, run: Run, path: Path, folder: str) -> None:
        opened = self._runs.get(run.id)
        if opened is not None:
            self._write(run, {"kind": "file", "path": opened.journal.keep(Path(path)), "folder": folder, "moment": time.time()})

    def model(self, run: Run, model: Any, inputs: Any, name: str) -> None:
        opened = self._runs.get(run.id)
        if opened is None:
            return
        # Now, not in the thread: the caller may train the model on when this returns.
        begun = time.monotonic()
        place = f"model-{opened.models}"
        opened.models += 1
        try:
            models.save(model, inputs, opened.journal.folder / place)
        except Exception:
            shutil.rmtree(opened.journal.folder / place, ignore_errors=True)
            raise
        finally:
            opened.saving += time.monotonic() - begun
        self._write(run, {"kind": "model", "path": place, "name": name, "moment": time.time()})

    def end(self, run: Run, status: Status, report: Report | None, moment: float) -> None:
        signals.unwatch(run.id)
        begun = time.monotonic()
        opened = self._runs.get(run.id)
        if opened is None:
            return
        try:
            if not opened.device and (device := environment.device()) is not None:
                self.tag(run, {"kdfuse.device": device})
            for path in report.files.values() if report is not None else ():
                if Path(path).exists():
                    self.file(run, Path(path), "files")
        finally:
            del self._runs[run.id]

            def last(told: Report | None) -> dict[str, Any]:
                return {"kind": "end", "status": status, "report": told.to_json() if told is not None else None, "moment": moment}

            try:
                opened.journal.finish(last(report), lambda: last(shortened(report)))
            finally:
                opened.journal.close()
                sender().close(run.id, max(PATIENCE - opened.saving - (time.monotonic() - begun), 0.1))
                sender().complain()

    def find(self, key: str) -> Report | None:
        """The report of the last finished run with this key: from a journal that still waits, else from MLflow."""
        for folder in reversed(waiting()):
            events, _ = read(folder)
            ends = [event for event in events if event["kind"] == "end" and event["status"] == "finished" and event["report"]]
            if events and ends and events[0].get("tags", {}).get("kdfuse.key") == key:
                return Report.from_json(ends[0]["report"])
        destination = Destination.current(self.experiment, self.uri)
        database = sqlite_path(destination.uri)
        if database is not None and not database.exists():
            return None
        store = Store(destination)
        query = f"tags.`kdfuse.key` = '{key}' and attributes.status = 'FINISHED'"
        found = store.client.search_runs([store.experiment], query, max_results=1, order_by=["attributes.end_time DESC"])
        if not found:
            return None
        # MLflow draws a progress bar for one small file.
        with tempfile.TemporaryDirectory(prefix="kdfuse-") as scratch, contextlib.redirect_stderr(io.StringIO()):
            fetched = Path(store.client.download_artifacts(found[0].info.run_id, "report.json", scratch))
            return Report.from_json(fetched.read_text(encoding="utf-8"))

    def _write(self, run: Run, event: dict[str, Any]) -> None:
        opened = self._runs.get(run.id)
        if opened is not None:
            opened.journal.write(event)
            sender().news(run.id)
            sender().complain()


def shortened(report: Report | None) -> Report | None:
    """A report in the room that its journal keeps: the figures, and the curves if they fit."""
    if report is None:
        return None
    note = "The disk was full at the end of this run: its tables, files and settings are not kept."
    made = Report(report.technique, metrics=report.metrics, history=report.history, notes=[note], seconds=report.seconds, name=report.name)
    return made if len(made.to_json()) < RESERVE // 2 else dataclasses.replace(made, history={})


def _scalar(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
