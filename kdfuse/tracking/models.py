"""A run's model as MLflow stores it: with its signature, loadable by `mlflow.pyfunc` where kdfuse is not installed."""

import contextlib
import io
import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kdfuse.tracking.store import Store, quiet

NAME = "model"
"""The name of the one model of a run: `runs:/<run id>/model`."""
OPEN = ("keras", "builtins", "numpy")
"""Packages whose classes Keras loads by itself."""


def save(model: Any, inputs: Any, folder: Path) -> None:
    """Write a Keras model as an MLflow model folder.

    A model of Keras's own layers is kept as a `.keras` file. One with other classes, or a Lambda, would need their code
    to load, so it is kept as the exported graph.

    Args:
        model: a built Keras model.
        inputs: a few rows of input for the signature, or None for what the model itself declares.
        folder: does not exist yet.
    """
    import mlflow.keras
    from mlflow.models import infer_signature

    rows = _named_inputs(model, inputs)
    signature = None if rows is None else infer_signature(rows, _named_outputs(model, inputs))
    single = signature is not None and len(signature.inputs.inputs) == 1 and not isinstance(rows, dict)
    requirements = [f"{name}=={version(name)}" for name in ("keras", "tensorflow", "numpy")]
    arguments = {"signature": signature, "pip_requirements": requirements}
    # It warns of a missing pip, which the requirements given here do not need.
    with quiet("mlflow", level=logging.ERROR), contextlib.redirect_stdout(io.StringIO()):
        mlflow.keras.save_model(model, str(folder), save_exported_model=single and not portable(model), **arguments)


def portable(model: Any) -> bool:
    """Whether a `.keras` file of `model` loads in safe mode without anybody's code but Keras's."""
    import keras

    try:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(model), default=str))
    except Exception:
        return False
    config.pop("compile_config", None)
    return not _foreign(config)


def _foreign(config: Any) -> bool:
    if isinstance(config, list):
        return any(map(_foreign, config))
    if not isinstance(config, dict):
        return False
    if "class_name" in config and "module" in config:
        package = str(config["module"] or "keras").split(".")[0]
        if package not in OPEN or config["class_name"] in ("Lambda", "__lambda__") or ">" in str(config.get("registered_name")):
            return True
    return any(map(_foreign, config.values()))


def _named_inputs(model: Any, inputs: Any) -> Any:
    """The rows as one array or, for several inputs, as arrays by name: MLflow's signatures know no others."""
    import keras
    import numpy as np

    if inputs is None:
        declared = getattr(model, "inputs", None)
        if not declared or any(size is None for one in declared for size in one.shape[1:]):
            return None
        rows = [np.zeros((1, *one.shape[1:]), keras.backend.standardize_dtype(one.dtype)) for one in declared]
        return rows[0] if len(rows) == 1 else {one.name: row for one, row in zip(declared, rows, strict=True)}
    arrays = keras.tree.map_structure(np.asarray, inputs)
    if isinstance(arrays, Mapping):
        return dict(arrays)
    if isinstance(arrays, list | tuple):
        names = [one.name for one in getattr(model, "inputs", None) or []]
        flat = keras.tree.flatten(arrays)
        return dict(zip(names if len(names) == len(flat) else [f"input_{i}" for i in range(len(flat))], flat, strict=True))
    return arrays


def _named_outputs(model: Any, inputs: Any) -> Any:
    import keras
    import numpy as np

    if inputs is None:
        inputs = [np.zeros((1, *one.shape[1:]), keras.backend.standardize_dtype(one.dtype)) for one in model.inputs]
        inputs = inputs[0] if len(inputs) == 1 else inputs
    made = keras.tree.map_structure(keras.ops.convert_to_numpy, model(inputs, training=False))
    if isinstance(made, Mapping):
        return dict(made)
    flat = keras.tree.flatten(made)
    if len(flat) == 1:
        return flat[0]
    names = list(getattr(model, "output_names", None) or [])
    return dict(zip(names if len(names) == len(flat) else [f"output_{i}" for i in range(len(flat))], flat, strict=True))


def send(store: Store, run: Any, folder: Path, name: str = NAME) -> str | None:
    """Log the model in `folder` to an MLflow run under a name, once, however often this is called.

    It becomes a logged model of MLflow 3. A server that does not know those gets the files among the run's artifacts.

    Returns:
        The logged model's id; None where the server has none.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    client, run_id = store.client, run.info.run_id
    run = client.get_run(run_id)  # with its settings, which the model is listed by
    try:
        known = [found for found in client.search_logged_models([store.experiment], f"name = '{name}'", max_results=50,
                                                                order_by=[{"field_name": "creation_time", "ascending": False}])
                 if found.source_run_id == run_id]  # fmt: skip
        described_by = {"source_run_id": run_id, "params": dict(run.data.params), "model_type": "keras"}
        logged = known[0] if known else client.create_logged_model(store.experiment, name=name, **described_by)
    except Exception as error:
        if not _unknown_to_server(error):
            raise
        client.log_artifacts(run_id, str(folder), name)
        return None
    described = Model.load(str(folder / "MLmodel"))
    described.run_id, described.model_id = run_id, logged.model_id
    described.save(str(folder / "MLmodel"))
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    if logged.model_id not in {one.model_id for one in (run.outputs.model_outputs if run.outputs else [])}:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def _unknown_to_server(error: Exception) -> bool:
    return getattr(error, "error_code", "") in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED") or "404" in str(error)
