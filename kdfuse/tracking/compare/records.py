"""Runs read back as plain records: from the journals that were not sent yet, then from MLflow."""

import contextlib
import dataclasses
import functools
import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdfuse.home import home
from kdfuse.report import Report
from kdfuse.settings import suggest
from kdfuse.tracking import journal
from kdfuse.tracking.names import parameter
from kdfuse.tracking.store import Destination, client, shown, sqlite_path

PAGE = 1000
"""Runs asked for in one call."""


@dataclasses.dataclass
class Record:
    """One run, wherever it was read.

    Attributes:
        id: kdfuse's id of the run; MLflow's for a run that something else made.
        name: what a person reads.
        technique: the technique's name, `"track"` for a group, `""` for a run that something else made.
        parent: the id of the run it is part of.
        status: `"finished"`, `"failed"`, `"killed"`, or `"running"`.
        started: seconds since 1970.
        settings: its settings under their flat names.
        metrics: its last figures.
        tags: kdfuse's tags, without the `kdfuse.` before them.
        fetch: gives the report; asked once, when it is needed.
    """

    id: str
    name: str
    technique: str
    parent: str | None
    status: str
    started: float
    settings: dict[str, Any]
    metrics: dict[str, float]
    tags: dict[str, str]
    fetch: Callable[[], Report | None] = lambda: None

    @functools.cached_property
    def report(self) -> Report | None:
        """The run's report, with its curves and tables; None where there is none to be had."""
        try:
            return self.fetch()
        except Exception:  # a file that is gone, a server that went away: the table has its figures all the same
            return None


@dataclasses.dataclass
class Reading:
    """What an experiment has.

    Attributes:
        destination: where it is.
        records: its runs, the earliest first.
        notes: what a reader should know.
    """

    destination: Destination
    records: list[Record]
    notes: list[str]


def read(experiment: str, uri: str | None = None) -> Reading:
    """All runs of an experiment. Nothing is made in the store.

    Args:
        experiment: its name.
        uri: MLflow's tracking URI; by default where runs go.

    Raises:
        ValueError: there is no such experiment; the message names the near ones.
        ConnectionError: MLflow does not answer, and no journal has a run of the experiment.
    """
    if not isinstance(experiment, str) or not experiment.strip():
        raise ValueError(f"`experiment`: expected the name of an MLflow experiment. Received: experiment={experiment!r}.")
    destination = Destination.current(experiment, uri)
    known: set[str] = set()
    notes: list[str] = []
    kept = _journals(destination, known)  # first: a run that is sent meanwhile is found in MLflow then
    sent: list[Record] = []
    try:
        sent = _mlflow(destination, known)
    except Exception as error:
        reason = f"MLflow at {shown(destination.uri)} does not answer: {type(error).__name__}: {shown(' '.join(str(error).split())[:200])}"
        if not kept:
            raise ConnectionError(f"{reason}. Start it, or give another `uri`.") from error
        notes.append(f"{reason}. These are the runs that wait for `kdfuse sync`.")
    if experiment not in known:
        hint = suggest(experiment, sorted(known)) if known else "It has no experiment yet: record one with kdfuse.track(experiment)."
        raise ValueError(
            f"`experiment`: expected the name of an experiment in {shown(destination.uri)}. Received: experiment={experiment!r}. {hint}"
        )
    waiting = {record.id for record in kept}
    records = kept + [record for record in sent if record.id not in waiting]
    return Reading(destination, sorted(records, key=lambda record: record.started), notes)


def _mlflow(destination: Destination, known: set[str]) -> list[Record]:
    path = sqlite_path(destination.uri)
    if path is not None and not path.exists():
        return []
    asked = client(destination.uri)
    found, token = None, None
    while True:
        page = asked.search_experiments(max_results=PAGE, page_token=token)
        known.update(one.name for one in page)
        found = next((one for one in page if one.name == destination.experiment), found)
        token = page.token
        if not token:
            break
    if found is None:
        return []
    runs: list[Any] = []
    while True:
        page = asked.search_runs([found.experiment_id], max_results=PAGE, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    ids = {run.info.run_id: run.data.tags.get("kdfuse.run_id", run.info.run_id) for run in runs}
    return [_from_mlflow(asked, run, ids) for run in runs]


def _from_mlflow(asked: Any, run: Any, ids: Mapping[str, str]) -> Record:
    tags = run.data.tags
    return Record(
        id=ids[run.info.run_id],
        name=run.info.run_name or "",
        technique=tags.get("kdfuse.technique", ""),
        parent=ids.get(tags.get("mlflow.parentRunId", "")),
        status=run.info.status.lower(),
        started=(run.info.start_time or 0) / 1000,
        settings={name: value_of(text) for name, text in run.data.params.items()},
        metrics=dict(run.data.metrics),
        tags={key.removeprefix("kdfuse."): value for key, value in tags.items() if key.startswith("kdfuse.")},
        fetch=functools.partial(_fetched, asked, run.info.run_id),
    )


def _fetched(asked: Any, run_id: str) -> Report:
    # MLflow draws a progress bar for one small file.
    with tempfile.TemporaryDirectory(prefix="kdfuse-") as scratch, contextlib.redirect_stderr(io.StringIO()):
        return Report.from_json(Path(asked.download_artifacts(run_id, "report.json", scratch)).read_text(encoding="utf-8"))


def _journals(destination: Destination, known: set[str]) -> list[Record]:
    records = []
    for folder in journal.waiting(home("journal")):
        events, _ = journal.read(folder)
        if not events or events[0]["kind"] != "start" or events[0]["destination"]["uri"] != destination.uri:
            continue
        known.add(events[0]["destination"]["experiment"])
        if events[0]["destination"]["experiment"] == destination.experiment:
            records.append(_from_journal(events))
    return records


def _from_journal(events: list[journal.Event]) -> Record:
    first, run = events[0], events[0]["run"]
    metrics: dict[str, float] = {}
    tags, status, report = dict(first["tags"]), "running", None
    for event in events[1:]:
        if event["kind"] == "tag":
            tags |= {key if "." in key else f"kdfuse.{key}": value for key, value in event["tags"].items()}
        elif event["kind"] == "log":
            metrics |= {name: float(value) for name, value in event["values"].items() if value is not None}
        elif event["kind"] == "end":
            status, report = event["status"], Report.from_json(event["report"]) if event["report"] else None
    if report is not None:
        metrics |= {**report.metrics, "seconds": report.seconds}
    return Record(
        id=run["id"],
        name=run["name"],
        technique=run["technique"],
        parent=run["parent"],
        status=status,
        started=float(run["started"]),
        settings={name: value_of(parameter(value)) for name, value in first["settings"].items()},
        metrics=metrics,
        tags={key.removeprefix("kdfuse."): str(value) for key, value in tags.items() if key.startswith("kdfuse.") or "." not in key},
        fetch=lambda: report,
    )


def value_of(text: str) -> Any:
    """A setting from the text that MLflow keeps of it."""
    if text == "None":
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)) else text
