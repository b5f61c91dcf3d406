"""Models in MLflow: loadable, with their signature, also where their code is not."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kdfuse import recording
from kdfuse.tracking import models
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from tests.tracking.test_sender import free_port, kill


class Doubled(keras.layers.Layer):
    """A layer of the user's own."""

    def call(self, inputs: Any) -> Any:
        return 2 * inputs


def plain() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])


def custom() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), Doubled(), keras.layers.Dense(3)])


def rows(number: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(number, 4)).astype("float32")


@pytest.mark.parametrize("build", [plain, custom])
def test_a_logged_model_predicts_the_same(
    build: Callable[[], keras.Model], recorder: MlflowRecorder, runs: Callable[..., Any], database: str
) -> None:
    import mlflow

    model = build()
    with recording.run("a") as run:
        run.model(model, rows())
        expected = keras.ops.convert_to_numpy(model(rows(5)))
        model.layers[-1].kernel.assign(0 * model.layers[-1].kernel)  # what happens after the hook does not matter
    mlflow.set_tracking_uri(database)
    try:
        loaded = mlflow.pyfunc.load_model(f"runs:/{runs()['a'].info.run_id}/model")
    finally:
        mlflow.set_tracking_uri(None)
    np.testing.assert_allclose(loaded.predict(rows(5)), expected, atol=1e-6)
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 4)
    assert loaded.metadata.signature.outputs.inputs[0].shape == (-1, 3)
    assert loaded.metadata.run_id == runs()["a"].info.run_id


def test_sending_a_model_again_changes_nothing(database: str, tmp_path: Path) -> None:
    from kdfuse.tracking.store import Destination, Store

    models.save(plain(), rows(), tmp_path / "model")
    store = Store(Destination.current("tests"))
    run = store.client.create_run(store.experiment)
    store.client.log_param(run.info.run_id, "training__epochs", 30)
    for _ in range(3):
        models.send(store, run, tmp_path / "model")
    (logged,) = store.client.search_logged_models([store.experiment])
    assert logged.params == {"training__epochs": "30"}  # of the run, as the Models tab shows it
    assert len(store.client.get_run(run.info.run_id).outputs.model_outputs) == 1


def test_several_models_of_a_run_have_names_of_their_own(recorder: MlflowRecorder, runs: Callable[..., Any], database: str) -> None:
    import mlflow

    given = [plain(), plain()]
    with recording.run("a") as run:
        for place, model in enumerate(given):
            run.model(model, rows(), f"student_{place + 1}")
    run_id = runs()["a"].info.run_id
    mlflow.set_tracking_uri(database)
    try:
        for place, model in enumerate(given):
            loaded = mlflow.pyfunc.load_model(f"runs:/{run_id}/student_{place + 1}")
            np.testing.assert_allclose(loaded.predict(rows(5)), keras.ops.convert_to_numpy(model(rows(5))), atol=1e-6)
    finally:
        mlflow.set_tracking_uri(None)
    assert len(mlflow.MlflowClient(tracking_uri=database).get_run(run_id).outputs.model_outputs) == 2


def test_several_inputs_and_outputs_are_named(tmp_path: Path) -> None:
    from mlflow.models import Model

    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    model = keras.Model([a, b], [keras.layers.Dense(3, name="x")(joined), keras.layers.Dense(1, name="y")(joined)])
    for number, inputs in enumerate(([rows(), rows()[:, :2]], None)):
        models.save(model, inputs, tmp_path / str(number))
        signature = Model.load(str(tmp_path / str(number) / "MLmodel")).signature
        assert signature.inputs.input_names() == ["a", "b"] and len(signature.outputs.inputs) == 2


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([keras.layers.Dense(2, activation="gelu", kernel_regularizer="l2"), keras.layers.BatchNormalization()], True),
        ([keras.layers.Lambda(lambda x: x)], False),
        ([Doubled()], False),
        ([keras.Sequential([keras.layers.Dense(2), Doubled()])], False),
    ],
)
def test_portable(layers: list[Any], expected: bool) -> None:
    assert models.portable(keras.Sequential([keras.Input((4,)), *layers])) is expected


@pytest.mark.slow
def test_a_process_without_our_code_loads_it(recorder: MlflowRecorder, runs: Callable[..., Any], database: str, tmp_path: Path) -> None:
    for name, build in (("plain", plain), ("custom", custom)):
        with recording.run(name) as run:
            model = build()
            run.model(model, rows())
        np.save(tmp_path / f"{name}.npy", keras.ops.convert_to_numpy(model(rows())))
    code = """
import sys
sys.modules["kdfuse"] = None
import mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
x = numpy.random.default_rng(0).normal(size=(3, 4)).astype("float32")
for name, run in (("plain", sys.argv[2]), ("custom", sys.argv[3])):
    made = mlflow.pyfunc.load_model(f"runs:/{run}/model").predict(x)
    numpy.testing.assert_allclose(made, numpy.load(name + ".npy"), atol=1e-6)
"""
    arguments = [database, runs()["plain"].info.run_id, runs()["custom"].info.run_id]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_a_served_model_answers_a_request(recorder: MlflowRecorder, runs: Callable[..., Any], database: str, tmp_path: Path) -> None:
    with recording.run("served") as run:
        model = plain()
        run.model(model, rows())
    expected = keras.ops.convert_to_numpy(model(rows()))
    port = free_port()
    where = ["-m", f"runs:/{runs()['served'].info.run_id}/model", "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    # As in an activated environment: MLflow looks for its web server on the PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", "serve", *where], cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": database, "PATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps({"inputs": rows().tolist()}).encode(), {"Content-Type": "application/json"}
    )
    try:
        for _ in range(240):
            try:
                answer = json.load(urllib.request.urlopen(asked, timeout=30))
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.5)
        np.testing.assert_allclose(answer["predictions"], expected, atol=1e-6)
    finally:
        kill(process)
