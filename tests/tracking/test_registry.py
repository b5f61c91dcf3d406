import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse import recording
from kdfuse.tracking import registry
from kdfuse.tracking.mlflow_recorder import MlflowRecorder


def net(seed: int = 0) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(seed=seed))])


def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def recorded(name: str, model: keras.Model) -> recording.Run:
    with recording.run(name) as run:
        run.model(model, rows())
    return run


def same(one: keras.Model, other: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_runs_model_loads_by_its_address(recorder: MlflowRecorder, runs: Callable[..., Any]) -> None:
    model = net()
    recorded("a", model)
    loaded = kf.load_model(f"runs:/{runs()['a'].info.run_id}/model")
    assert same(loaded, model)


@pytest.mark.parametrize("variable", [None, "sqlite:///of-the-environment.db"])
@pytest.mark.parametrize("code", [None, "sqlite:///of-the-code.db"])
def test_where_mlflow_points_to_is_left_as_it_was(variable: str | None, code: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    mlflow.set_tracking_uri(code)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False) if variable is None else monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    try:
        with registry._pointing_to("sqlite:///ours.db"):
            assert mlflow.get_tracking_uri() == "sqlite:///ours.db"
        assert os.environ.get("MLFLOW_TRACKING_URI") == variable
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert (mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None) == code
    finally:
        mlflow.set_tracking_uri(None)


def test_a_registered_name_may_have_quotes(recorder: MlflowRecorder) -> None:
    run, name = recorded("a", net()), "Ada's net"
    assert [kf.promote(run.id, name), kf.promote(run.id, name)] == [1, 2]
    assert kf.load_model(f"models:/{name}@champion").count_params() == net().count_params()


def test_the_champion_is_the_one_that_was_promoted_last(recorder: MlflowRecorder, runs: Callable[..., Any]) -> None:
    first, second = net(1), net(2)
    run, _ = recorded("a", first), recorded("b", second)
    assert kf.promote(run.id, "digits") == 1  # kdfuse's own id
    assert same(kf.load_model("models:/digits@champion"), first)
    assert kf.promote(runs()["b"].info.run_id, "digits") == 2  # MLflow's
    assert same(kf.load_model("models:/digits@champion"), second)
    assert same(kf.load_model("models:/digits/1"), first)
    kf.promote(run.id, "digits", alias="smallest")
    assert same(kf.load_model("models:/digits@smallest"), first) and same(kf.load_model("models:/digits@champion"), second)


def test_what_is_not_there_is_told(recorder: MlflowRecorder) -> None:
    run = recorded("a", net())
    with pytest.raises(ValueError, match=r"`path`: expected a model of sqlite.*Received: 'runs:/nowhere/model'"):
        kf.load_model("runs:/nowhere/model")
    with pytest.raises(ValueError, match="`path`: expected a model"):
        kf.load_model("models:/digits@champion")
    with pytest.raises(ValueError, match="`run`: expected the id of a run"):
        kf.promote("nowhere", "digits")
    with pytest.raises(ValueError, match="`model`: expected a model of the run 'a'. Received: 'other'"):
        kf.promote(run.id, "digits", model="other")
    with pytest.raises(ValueError, match="`name`: expected a text"):
        kf.promote(run.id, " ")


class Doubled(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return 2 * inputs


def test_layers_that_nobody_knows_are_told(recorder: MlflowRecorder, runs: Callable[..., Any]) -> None:
    recorded("a", keras.Sequential([keras.Input((4,)), Doubled(), keras.layers.Dense(2)]))
    address = f"runs:/{runs()['a'].info.run_id}/model"
    with pytest.raises(ValueError, match=r"mlflow\.pyfunc|not known"):
        kf.load_model(address)


def test_a_file_loads_as_before(tmp_path: Path) -> None:
    model = net()
    kf.save_model(model, tmp_path / "model.keras")
    assert same(kf.load_model(tmp_path / "model.keras"), model)
