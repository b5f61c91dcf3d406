"""From a journal to MLflow: the same code sends a run while it goes on and when it is synced later.

Whatever is sent twice changes nothing: the MLflow run is found by its tag `kdfuse.run_id`, parameters and tags are equal,
metrics keep their original times (MLflow keeps one of each), files go to the same places.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdfuse.report import Report
from kdfuse.tracking import journal, model_metrics, models, names, note
from kdfuse.tracking.store import Destination, Store

METRICS_A_CALL = 1000
PARAMETERS_A_CALL = 100
STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


class ParentMissing(Exception):
    """The parent's run is not in the store (yet)."""


class Transcript:
    """What of one journal MLflow has.

    Attributes:
        done: the end of the run was sent.
    """

    def __init__(self, folder: Path, stores: Callable[[Destination], Store], *, orphans: bool = False) -> None:
        """Begin at the journal's start.

        Args:
            folder: the journal.
            stores: opens the store of a destination.
            orphans: send a child whose parent the store does not have; otherwise `ParentMissing`.
        """
        self.folder = folder
        self.done = False
        self._stores = stores
        self._orphans = orphans
        self._offset = 0
        self._run: Any = None
        self._store: Store
        self._steps: dict[str, set[int]] = {}
        self._last_moment = 0.0
        self._metrics: list[Any] = []
        self._models: dict[str, str] = {}
        self._data: tuple[str, str] | None = None

    def catch_up(self) -> bool:
        """Send what the journal has and MLflow has not; True when the run's end was sent."""
        events, offset = journal.read(self.folder, self._offset)
        for event in events:
            if event["kind"] != "log":
                self._send_metrics()
            getattr(self, f"_{event['kind']}", self._ignore)(event)
            self._last_moment = max(self._last_moment, float(event.get("moment", 0.0)))
        self._send_metrics()
        self._offset = offset
        return self.done

    def abandon(self) -> None:
        """End a run whose process died: `KILLED`, at the time of its last event."""
        if self._run is not None and not self.done:
            self._store.client.set_terminated(self._run.info.run_id, "KILLED", _milliseconds(self._last_moment))

    def _start(self, event: journal.Event) -> None:
        from mlflow.entities import Param, RunTag

        run, client = event["run"], self._open(event)
        tags = dict(names.tag(key, value) for key, value in event["tags"].items())
        if run["parent"] is not None:
            parent = self._store.find(run["parent"])
            if parent is None and not self._orphans:
                raise ParentMissing(run["parent"])
            if parent is not None:
                tags["mlflow.parentRunId"] = parent.info.run_id
        self._run = self._store.find(run["id"])
        if self._run is None:
            self._run = self._store.begin(_milliseconds(run["started"]), tags, names.shorten(run["name"], 250))
        parameters = [Param(names.name(key), names.parameter(value)) for key, value in event["settings"].items()]
        for first in range(0, len(parameters), PARAMETERS_A_CALL):
            client.log_batch(self._run.info.run_id, params=parameters[first : first + PARAMETERS_A_CALL])
        client.log_batch(self._run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if "data" in event["tags"]:
            self._data = (event["tags"]["data"], event["tags"].get("data_fingerprint", ""))
            self._data_sets({(names.shorten(self._data[0], 250), self._data[1][: model_metrics.DIGEST]): "training"})

    def _data_sets(self, used: Mapping[tuple[str, str], str]) -> None:
        """Name the data that the run used (by name and digest, for what), so that MLflow shows it and finds the other runs on it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if self._data is None or not used:
            return
        source = json.dumps({"name": self._data[0], "fingerprint": self._data[1]})
        made = [DatasetInput(Dataset(*one, "kdfuse", source), [InputTag("mlflow.data.context", what)]) for one, what in used.items()]
        self._store.client.log_inputs(self._run.info.run_id, made)

    def _open(self, event: journal.Event) -> Any:
        self._store = self._stores(Destination(**event["destination"]))
        return self._store.client

    def _log(self, event: journal.Event) -> None:
        step = event["step"]
        for key, value in event["values"].items():
            self._metric(key, value, event["moment"], 0 if step is None else step)
            if step is not None:
                self._steps.setdefault(key, set()).add(step)

    def _metric(self, key: str, value: Any, moment: float, step: int, **tied: str) -> None:
        from mlflow.entities import Metric

        made = names.number(value)
        if made is not None:
            self._metrics.append(Metric(names.name(key), made, _milliseconds(moment), step, **tied))

    def _send_metrics(self) -> None:
        metrics, self._metrics = self._metrics, []
        for first in range(0, len(metrics), METRICS_A_CALL):
            self._store.client.log_batch(self._run.info.run_id, metrics=metrics[first : first + METRICS_A_CALL])

    def _tag(self, event: journal.Event) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(*names.tag(key, value)) for key, value in event["tags"].items()]
        self._store.client.log_batch(self._run.info.run_id, tags=tags)

    def _file(self, event: journal.Event) -> None:
        path, place = self.folder / event["path"], event["folder"] or None
        if path.is_dir():
            self._store.client.log_artifacts(self._run.info.run_id, str(path), f"{place}/{path.name}" if place else path.name)
        elif path.exists():
            self._store.client.log_artifact(self._run.info.run_id, str(path), place)

    def _model(self, event: journal.Event) -> None:
        name = event.get("name", models.NAME)
        logged = models.send(self._store, self._run, self.folder / event["path"], name)
        if logged is not None:
            self._models[name] = logged

    def _end(self, event: journal.Event) -> None:
        if event["report"] is not None:
            self._report(Report.from_json(event["report"]), event["report"], event["moment"])
        self._store.client.set_terminated(self._run.info.run_id, STATUS[event["status"]], _milliseconds(event["moment"]))
        self.done = True

    def _report(self, report: Report, text: str, moment: float) -> None:
        for key, values in report.history.items():
            # A run that was resumed logged its last epochs only; the report knows them all.
            seen = self._steps.setdefault(key, set())
            for step in [step for step in range(len(values)) if step not in seen]:
                self._metric(key, values[step], moment, step)
                seen.add(step)
        model = model_metrics.owner(report, self._models)
        links = {key: model_metrics.link(key, report, model, self._data) for key in report.metrics}
        for key, value in report.metrics.items():
            # MLflow shows the value of the highest step: the measured figure comes after the curve of the same name.
            self._metric(key, value, moment, max(self._steps.get(key) or {-1}) + 1, **links[key])
        self._data_sets(model_metrics.data_sets(links.values()))
        self._metric("seconds", report.seconds, moment, 0)
        self._send_metrics()
        client, run_id = self._store.client, self._run.info.run_id
        client.set_tag(run_id, "mlflow.note.content", names.shorten(note.note(report), names.LONGEST_TAG))
        with tempfile.TemporaryDirectory(prefix="kdfuse-") as temporary:
            from kdfuse.tracking import plots

            folder = Path(temporary)
            (folder / "report.json").write_text(text, encoding="utf-8")
            plots.draw(report, folder / "plots")
            client.log_artifacts(run_id, str(folder))

    def _ignore(self, event: journal.Event) -> None:
        """An event of a later version."""


def _milliseconds(moment: float) -> int:
    return int(moment * 1000)
