"""MLflow's saved view and the links to it."""

import base64
import json
import zlib
from typing import Any
from urllib.parse import unquote

import pytest

from kdfuse.recording import Run
from kdfuse.report import Report
from kdfuse.tracking.compare import view
from kdfuse.tracking.store import Destination, Store

ROWS = [{"validation/accuracy": 0.8, "test/accuracy": 0.7, "size/parameters": 10.0}, {"validation/accuracy": 0.9, "cost/macs": 5.0}]


def unpacked(value: str) -> dict[str, Any]:
    state: str = json.loads(value)["state"]
    assert state.startswith("deflate;")
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(state.removeprefix("deflate;"))))
    return found


def test_columns_filter_and_order() -> None:
    name, value = view.tag(ROWS, 12.5)
    state = unpacked(value)
    assert name == "mlflow.sharedViewState.kdfuse" and {key: json.loads(value)[key] for key in ("name", "createdAt", "updatedAt")} == {
        "name": "kdfuse", "createdAt": 12500, "updatedAt": 12500,
    }  # fmt: skip
    assert state["selectedColumns"] == ["metrics.`validation/accuracy`", "metrics.`test/accuracy`", "metrics.`size/parameters`",
                                        "metrics.`cost/macs`"]  # fmt: skip
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`validation/accuracy`", False)
    assert "track" in state["searchFilter"] and "metrics.`test/accuracy` >= 0" in state["searchFilter"]
    assert view.state([{"validation/rmse": 2.0, "test/rmse": 2.0}])["orderByAsc"] is True
    assert view.state([{"size/parameters": 2.0}])["orderByKey"] == "attributes.start_time"
    later = json.loads(view.tag(ROWS, 99.0, value)[1])
    assert (later["createdAt"], later["updatedAt"]) == (12500, 99000)


def test_the_filter_is_one_that_mlflow_takes(database: str) -> None:
    store = Store(Destination.current("x"))
    for technique, test in (("Train", 0.5), ("track", 0.5), ("Train", None)):
        run = store.client.create_run(store.experiment, tags={"kdfuse.technique": technique})
        if test is not None:
            store.client.log_metric(run.info.run_id, "test/accuracy", test)
        store.client.set_terminated(run.info.run_id)
    found = store.client.search_runs([store.experiment], view.state(ROWS)["searchFilter"], order_by=["metrics.`validation/accuracy` DESC"])
    assert [run.data.metrics for run in found] == [{"test/accuracy": 0.5}]


def test_links() -> None:
    found = view.links("http://host:5000/", "7", ["a", "b"])
    assert found["table"] == "http://host:5000/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=kdfuse"
    together = 'http://host:5000/#/compare-runs?runs=["a","b"]&experiments=["7"]&workflowType=machine_learning'
    assert unquote(found["together"]) == together and " " not in found["together"]
    assert list(view.links("http://host", "7", ["a"], view=False).values()) == [
        "http://host/#/experiments/7/runs?workflowType=machine_learning"
    ]
    assert "together" not in view.links("http://host", "7", [str(place) for place in range(31)])


@pytest.fixture
def group(database: str) -> tuple[Run, Destination, Store]:
    destination = Destination.current("x")
    store, run = Store(destination), Run("group", "track", children=[Report(metrics=ROWS[0])])
    store.client.create_run(store.experiment, tags={"kdfuse.run_id": run.id})
    return run, destination, store


def test_the_view_is_written_with_the_experiment(group: tuple[Run, Destination, Store]) -> None:
    run, destination, store = group
    assert view.ready(run, destination)["table"].endswith(
        f"/{store.experiment}/runs?workflowType=machine_learning&viewStateShareKey=kdfuse"
    )
    assert unpacked(store.client.get_experiment(store.experiment).tags["mlflow.sharedViewState.kdfuse"]) == view.state(ROWS[:1])


def test_a_store_that_refuses_the_view_has_links_all_the_same(
    group: tuple[Run, Destination, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def refused(*arguments: object) -> None:
        raise RuntimeError("no such tag")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refused)
    run, destination, store = group
    assert view.ready(run, destination) == view.links(view.LOCAL, store.experiment, view=False)


def test_a_group_that_mlflow_does_not_have_has_no_links(database: str) -> None:
    assert view.ready(Run("group", "track"), Destination.current("x")) == {}
