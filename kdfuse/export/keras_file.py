"""`.keras` files: read in safe mode with one clear error, written in one step."""

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import keras

from kdfuse.home import atomic

CONFIG, WEIGHTS = "config.json", ("model.weights.h5", "model.weights.npz")


def load_model(path: str | os.PathLike[str], custom_objects: dict[str, Any] | None = None) -> keras.Model:
    """The model in a `.keras` file, loaded in safe mode: code in the file is not run.

    Args:
        path: a file that `model.save` or `save_model` wrote.
        custom_objects: names to the user's own classes and functions that the model uses and that are not registered.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a `.keras` file, is truncated or damaged, or holds a class that is not known here.
    """
    file = Path(path)
    _check_file(file)
    try:
        model = keras.saving.load_model(file, custom_objects=custom_objects, safe_mode=True)
    except Exception as error:
        raise _explain(file, error) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"`path`: expected a model in {file}. Received: a {type(model).__name__}.")
    return model


def save_model(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Write `model` to a `.keras` file in one step: a failure leaves an earlier file as it was.

    Args:
        model: a model, with its optimizer where it has one.
        path: must end in `.keras`; folders are made.

    Returns:
        The path.

    Raises:
        ValueError: another ending, or not a model.
    """
    target = Path(path)
    if target.suffix != ".keras":
        raise ValueError(f"`path`: expected a name that ends in .keras. Received: {target.name!r}. Give {target.stem + '.keras'!r}.")
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model`: expected a keras.Model. Received: {type(model).__name__}.")
    with atomic(target) as temporary:
        model.save(temporary)
    return target


def _check_file(file: Path) -> None:
    if file.is_dir():
        raise ValueError(f"`path`: expected a .keras file. Received: {file}, which is a folder. Give the file itself.")
    if not file.exists():
        raise FileNotFoundError(f"`path`: there is no file {file}.{_beside(file)}")
    if file.suffix != ".keras":
        mend = (
            " An .h5 file is not loaded, for it can run code: load it with Keras yourself and save it as .keras."
            if file.suffix == ".h5"
            else ""
        )
        raise ValueError(f"`path`: expected a file that ends in .keras. Received: {file.name!r}.{mend}")
    if file.stat().st_size == 0:
        raise ValueError(f"`path`: {file} is empty. Its writing was probably interrupted: save the model again.")
    with open(file, "rb") as opened:
        start = opened.read(4)
    if start != b"PK\x03\x04":
        raise ValueError(f"`path`: {file} is not a .keras file, or its beginning is damaged. Save the model again with model.save.")
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
            names = set(archive.namelist())
            config = json.loads(archive.read(CONFIG)) if bad is None and CONFIG in names else None
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"`path`: {file} is truncated or damaged ({_first_line(error)}). Copy it again from its source, or save the model again."
        ) from error
    if bad is not None:
        raise ValueError(f"`path`: {file} is damaged: the checksum of its part {bad!r} is wrong. Copy it again, or save the model again.")
    if not isinstance(config, dict) or "class_name" not in config or not names & set(WEIGHTS):
        raise ValueError(f"`path`: {file} is a zip file but holds no Keras model. Save the model with model.save.")


def _explain(file: Path, error: Exception) -> ValueError:
    text = str(error)
    missing = re.search(r"Could not locate (class|function) '([^']+)'", text) or re.search(
        r"Cannot deserialize object of type (`)([^`]+)`", text
    )
    if missing:
        name = missing[2]
        return ValueError(
            f"`custom_objects`: {file} uses {name!r}, which is not known here. Import the module that registers it with "
            f"@keras.saving.register_keras_serializable(), or give it: load_model(path, custom_objects={{{name!r}: {name}}})."
        )
    if "lambda" in text.lower() and ("safe_mode" in text or "deserializ" in text):
        return ValueError(
            f"`path`: {file} holds a Python lambda, whose code is not run when a file is loaded. Write it as a named function or a layer "
            "registered with @keras.saving.register_keras_serializable(), and save the model again."
        )
    return ValueError(f"`path`: {file} cannot be loaded: {_first_line(error)}")


def _beside(file: Path) -> str:
    found = sorted(other.name for other in file.parent.glob("*.keras"))[:5] if file.parent.is_dir() else []
    return f" In that folder: {', '.join(found)}." if found else ""


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
