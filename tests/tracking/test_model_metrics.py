"""Figures under their model and data set, as MLflow's Models tab shows them."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kdfuse as kf
from kdfuse import recording
from kdfuse.report import Report
from kdfuse.tracking import models
from kdfuse.tracking.journal import Journal
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.model_metrics import data_sets, link, owner, split_of
from kdfuse.tracking.sender import sender
from kdfuse.tracking.store import Destination, Store
from kdfuse.tracking.transcript import Transcript
from tests.tracking.test_models import plain, rows
from tests.tracking.test_sender import free_port, server

MARK = "f" * 64
FIGURES = {
    "validation/accuracy": 0.75,
    "test/accuracy": 0.5,
    "tflite/accuracy": 0.25,
    "size/parameters": 9.0,
    "delta/teacher/test/accuracy": -0.1,
}


def test_figures_of_a_model_are_tied_to_it_and_to_the_data_they_were_measured_on() -> None:
    report = Report(metrics=FIGURES)
    tied = {name: link(name, report, "m-1", ("digits", MARK)) for name in FIGURES}
    assert tied["validation/accuracy"] == {"model_id": "m-1", "dataset_name": "digits, validation", "dataset_digest": "f" * 36}
    assert tied["test/accuracy"]["dataset_name"] == tied["tflite/accuracy"]["dataset_name"] == "digits, test"
    assert tied["size/parameters"] == {"model_id": "m-1"} and tied["delta/teacher/test/accuracy"] == {}
    assert data_sets(tied.values()) == {("digits, test", "f" * 36): "test", ("digits, validation", "f" * 36): "validation"}
    assert link("test/accuracy", report, None, ("digits", MARK)) == {} and link("test/accuracy", report, "m-1", None) == {"model_id": "m-1"}


def test_the_file_is_of_the_test_split_or_else_of_validation() -> None:
    assert split_of("tflite/accuracy", ["validation/accuracy", "tflite/accuracy"]) == "validation"
    assert split_of("tflite/agreement", ["validation/accuracy", "test/accuracy"]) == "test"
    assert split_of("tflite/accuracy", ["size/parameters"]) is None and split_of("size/parameters", []) is None


def test_of_several_models_the_figures_are_of_the_one_that_has_them() -> None:
    table = [{"model": "student 1", "test/accuracy": 0.5}, {"model": "student 2", "test/accuracy": 0.75}, {"model": "teacher"}]
    report = Report(metrics={"test/accuracy": 0.75, "seconds": 1.0}, tables={"models": table})
    assert owner(report, {"student_1": "a", "student_2": "b", "teacher": "c"}) == "b"
    assert owner(report, {"model": "d"}) == "d" and owner(report, {"student_1": "a"}) is None and owner(Report(), {}) is None


def journal(uri: str) -> Journal:
    """A run that ended, with a model and figures of it."""
    made = Journal("a")
    run = {"id": "a", "name": "a", "technique": "Train", "parent": None, "started": 1e9}
    tags = {"kdfuse.run_id": "a", "data": "digits", "data_fingerprint": MARK}
    destination = {"uri": uri, "experiment": "x", "artifacts": None}
    made.write({"kind": "start", "run": run, "settings": {}, "tags": tags, "destination": destination, "moment": 1e9})
    models.save(plain(), rows(), made.folder / "model-0")
    for epoch in range(2):
        made.write({"kind": "log", "values": {"validation/accuracy": 0.5}, "step": epoch, "moment": 1e9 + epoch})
    made.write({"kind": "model", "path": "model-0", "name": "model", "moment": 1e9 + 5})
    made.write({"kind": "end", "status": "finished", "report": Report(metrics=FIGURES).to_json(), "moment": 1e9 + 60})
    return made


def test_sent_again_nothing_is_there_twice(database: str, runs: Callable[..., Any], curve: Callable[..., Any]) -> None:
    made = journal(database)
    for _ in range(3):
        assert Transcript(made.folder, Store).catch_up()
    client = Store(Destination(database, "x")).client
    run = runs()["a"]
    (model,) = client.search_logged_models([run.info.experiment_id])
    told = {metric.key: (metric.value, metric.dataset_name) for metric in model.metrics}
    assert len(model.metrics) == 4 and told["test/accuracy"] == (0.5, "digits, test") and told["size/parameters"] == (9.0, None)
    assert told["validation/accuracy"] == (0.75, "digits, validation"), "the measured figure, not its curve"
    assert curve(run, "validation/accuracy") == [(0, 0.5), (1, 0.5), (2, 0.75)] and curve(run, "test/accuracy") == [(0, 0.5)]
    used = {one.dataset.name: one.tags[0].value for one in run.inputs.dataset_inputs}
    assert used == {"digits": "training", "digits, validation": "validation", "digits, test": "test"}


def test_a_server_without_logged_models_gets_the_figures_and_the_files(
    database: str, runs: Callable[..., Any], curve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

    def unknown(*arguments: Any, **keywords: Any) -> None:
        raise MlflowException("no such endpoint", ENDPOINT_NOT_FOUND)  # as a server of MLflow 2 answers

    monkeypatch.setattr(MlflowClient, "search_logged_models", unknown)
    assert Transcript(journal(database).folder, Store).catch_up()
    run = runs()["a"]
    assert run.info.status == "FINISHED" and run.data.metrics["test/accuracy"] == 0.5
    assert curve(run, "validation/accuracy") == [(0, 0.5), (1, 0.5), (2, 0.75)]
    assert "model" in {one.path for one in Store(Destination(database, "x")).client.list_artifacts(run.info.run_id)}


@pytest.mark.slow
def test_the_models_tab_of_a_server_has_accuracy_by_data_set(database: str, tmp_path: Path) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    with server(tmp_path, port):
        data = kf.datasets.load("digits", labels=200)
        with recording.use(MlflowRecorder("digits", uri)):
            _, report = kf.Train(epochs=1)(kf.models.mlp(data, units=4), data)
        assert sender().wait() == 0
        (experiment,) = (one for one in Store(Destination(uri, "x")).client.search_experiments() if one.name == "digits")
        # The request of MLflow's own page for its Models tab, best on test first.
        order = {"field_name": "metrics.test/accuracy", "ascending": False, "dataset_name": "digits, test"}
        body = json.dumps({"experiment_ids": [experiment.experiment_id], "order_by": [order]}).encode()
        asked = urllib.request.Request(f"{uri}/ajax-api/2.0/mlflow/logged-models/search", body, {"Content-Type": "application/json"})
        (model,) = json.load(urllib.request.urlopen(asked, timeout=30))["models"]
    told = {(one.get("dataset_name"), one["key"]): one["value"] for one in model["data"]["metrics"]}
    for split in ("validation", "test"):
        assert told[f"digits, {split}", f"{split}/accuracy"] == pytest.approx(report.metrics[f"{split}/accuracy"])
    assert told[None, "size/parameters"] == report.metrics["size/parameters"]
    assert {one.get("dataset_digest") for one in model["data"]["metrics"]} == {None, data.fingerprint[:36]}  # type: ignore[index]
