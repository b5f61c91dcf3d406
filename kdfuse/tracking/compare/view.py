"""MLflow's own page made ready: a saved view of an experiment, and links that open it."""

import base64
import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from kdfuse.home import home
from kdfuse.recording import Run
from kdfuse.tracking.compare.columns import meaning, quality, usual
from kdfuse.tracking.journal import EVENTS
from kdfuse.tracking.store import Destination, Store

KEY = "kdfuse"
"""The view's key: one for each experiment, so that its link stays."""
LOCAL = "http://127.0.0.1:5000"
"""Where `kdfuse ui` shows a store that has no pages of its own."""
MOST_TOGETHER = 30
"""Runs in one link that draws them together."""
LONGEST = 5000
"""Characters of a tag that every store of MLflow takes."""


def state(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What MLflow's table shows: the columns of a comparison, best first, without groups and trials that were not measured on test."""
    judged, told = quality(rows), quality(rows, "test")
    tests = ["attributes.status = 'FINISHED'", "tags.`kdfuse.technique` != 'track'"]
    if told is not None and all(0 <= row[told] <= 1 for row in rows if told in row):
        tests.append(f"metrics.`{told}` >= 0")
    known = meaning(judged) if judged else None
    columns = [f"metrics.`{name}`" for name in usual(rows) if "/" in name]
    return {
        "searchFilter": " and ".join(tests),
        "orderByKey": f"metrics.`{judged}`" if judged else "attributes.start_time",
        "orderByAsc": known is not None and known.better == "lower",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", *columns],
    }


def tag(rows: Sequence[Mapping[str, Any]], moment: float, earlier: str | None = None) -> tuple[str, str]:
    """The experiment's tag that MLflow keeps a saved view in, as of MLflow 3.17; `earlier` is what the tag holds now."""
    packed = base64.b64encode(zlib.compress(json.dumps(state(rows)).encode())).decode()
    now = int(moment * 1000)
    try:
        made = int(json.loads(earlier or "")["createdAt"])
    except (ValueError, KeyError, TypeError):
        made = now
    return f"mlflow.sharedViewState.{KEY}", json.dumps(
        {"name": "kdfuse", "createdAt": made, "updatedAt": now, "state": f"deflate;{packed}"}
    )


def links(base: str, experiment: str, runs: Sequence[str] = (), *, view: bool = True) -> dict[str, str]:
    """The pages of an experiment: `table` its saved view, `together` some of its runs side by side, where there are two or more.

    Args:
        base: where MLflow's pages are.
        experiment: its id.
        runs: MLflow's ids of the runs.
        view: whether the view was saved.
    """
    key = f"&viewStateShareKey={KEY}" if view else ""
    found = {"table": f"{base.rstrip('/')}/#/experiments/{experiment}/runs?workflowType=machine_learning{key}"}
    if 2 <= len(runs) <= MOST_TOGETHER:
        names, experiments = (quote(json.dumps(list(ids), separators=(",", ":")), safe=",") for ids in (runs, [experiment]))
        found["together"] = f"{base.rstrip('/')}/#/compare-runs?runs={names}&experiments={experiments}&workflowType=machine_learning"
    return found


def ready(group: Run, destination: Destination) -> dict[str, str]:
    """Save the view of a group's experiment and give the links. Empty where MLflow has not received the group."""
    if (home("journal") / group.id / EVENTS).exists():
        return {}  # MLflow is away, and asking it would only wait
    store = Store(destination)
    parent = store.find(group.id)
    if parent is None:
        return {}
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and attributes.status = 'FINISHED'"
    children = store.client.search_runs([store.experiment], query, max_results=MOST_TOGETHER + 1, order_by=["attributes.start_time"])
    base = destination.uri if destination.uri.startswith("http") else LOCAL
    return links(base, store.experiment, [run.info.run_id for run in children], view=_save(store, _rows(group)))


def _rows(group: Run) -> list[dict[str, Any]]:
    return [dict(child.metrics) for child in group.children if child.metrics]


def _save(store: Store, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Write the view. False where MLflow does not take it: the format is not documented, and may change."""
    listed = list(rows)
    if not listed:
        return False
    try:
        held = store.client.get_experiment(store.experiment).tags
        name, value = tag(listed, time.time(), held.get(f"mlflow.sharedViewState.{KEY}"))
        if len(value) > LONGEST:
            return False
        store.client.set_experiment_tag(store.experiment, name, value)
    except Exception:
        return False
    return True
