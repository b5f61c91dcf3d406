"""Models of the store: loaded by their address, and named in MLflow's registry."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from kdfuse.export import keras_file
from kdfuse.tracking.models import NAME
from kdfuse.tracking.sender import sender
from kdfuse.tracking.store import Destination, Store, quiet, shown

ADDRESSES = ("runs:/", "models:/")
VARIABLE = "MLFLOW_TRACKING_URI"


def load_model(path: str | os.PathLike[str], custom_objects: dict[str, Any] | None = None) -> keras.Model:
    """The model in a `.keras` file, or of a run or of MLflow's registry; loaded in safe mode: code in the file is not run.

    Args:
        path: a file that `model.save` or `save_model` wrote; `"runs:/<run id>/model"`; `"models:/<name>@champion"`, or
            `"models:/<name>/<version>"`. Addresses are looked up where runs go to at present (`MLFLOW_TRACKING_URI`, else the local store).
        custom_objects: names to the user's own classes and functions that the model uses and that are not registered.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a `.keras` file, is truncated or damaged, or holds a class that is not known here; there is no such model
            in the store, or the store has only its exported graph.
    """
    address = os.fspath(path)
    if not address.startswith(ADDRESSES):
        return keras_file.load_model(path, custom_objects)
    from mlflow.artifacts import download_artifacts

    sender().wait()
    uri = Destination.current().uri
    with tempfile.TemporaryDirectory() as folder:
        try:
            with quiet("mlflow", "alembic"), _pointing_to(uri):
                place = Path(download_artifacts(address, dst_path=folder))
        except Exception as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"`path`: expected a model of {shown(uri)}, such as 'runs:/<run id>/model' or 'models:/<name>@champion'. "
                f"Received: {address!r}. {first}"
            ) from error
        files = sorted(place.rglob("*.keras"))
        if not files:
            raise ValueError(
                f"`path`: {address} is kept as an exported graph alone, for it has layers that Keras does not load by itself. "
                f"Load it with mlflow.pyfunc.load_model, or from the .keras file that you saved."
            )
        return keras_file.load_model(files[0], custom_objects)


def promote(run: str, name: str, alias: str = "champion", model: str = NAME) -> int:
    """Put a run's model into MLflow's registry as the newest version of `name`, and let an alias point at it.

    `load_model("models:/<name>@champion")` then loads it, until another one is promoted.

    Args:
        run: the id of an MLflow run, as its page shows, or of a kdfuse run.
        name: of the registered model; made where it is missing.
        alias: what the version is called; it is taken from the one before.
        model: which of the run's models, where it has several.

    Returns:
        The version's number.

    Raises:
        ValueError: there is no such run in the store, or it has no such model.
    """
    for argument, value in (("run", run), ("name", name), ("alias", alias), ("model", model)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"`{argument}`: expected a text. Received: {argument}={value!r}.")
    sender().wait()
    store = Store(Destination.current())
    found = _run(store, run)
    run_id = found.info.run_id
    logged = [one for one in store.client.search_logged_models([found.info.experiment_id], f"name = '{model}'", max_results=1000)
              if one.source_run_id == run_id]  # fmt: skip
    if not logged:
        raise ValueError(f"`model`: expected a model of the run {found.info.run_name!r}. Received: {model!r}, which it does not have.")
    with quiet("mlflow", "alembic"), _pointing_to(store.destination.uri):
        _registered(store, name)
        made = store.client.create_model_version(name, f"models:/{logged[0].model_id}", run_id, model_id=logged[0].model_id)
        store.client.set_registered_model_alias(name, alias, made.version)
    return int(made.version)


@contextlib.contextmanager
def _pointing_to(uri: str) -> Iterator[None]:
    """MLflow looks up the parts of an address in its global store alone, which is put back at the end, as is the variable."""
    import mlflow

    variable = os.environ.pop(VARIABLE, None)  # MLflow takes it for what was set in code, and writes it
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop(VARIABLE, None) if variable is None else os.environ.__setitem__(VARIABLE, variable)


def _registered(store: Store, name: str) -> None:
    """Make the registered model where it is missing. Not by a search: a name may have quotes, and a filter has no way to say them."""
    from mlflow.exceptions import MlflowException

    try:
        store.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        store.client.create_registered_model(name)


def _run(store: Store, run: str) -> Any:
    everywhere = [one.experiment_id for one in store.client.search_experiments()]
    found = store.client.search_runs(everywhere, f"tags.`kdfuse.run_id` = '{run}'", max_results=1) if run.isalnum() else []
    try:
        return found[0] if found else store.client.get_run(run)
    except Exception as error:
        raise ValueError(
            f"`run`: expected the id of a run of {shown(store.destination.uri)}. Received: {run!r}. Its page in `kdfuse ui` shows it."
        ) from error
