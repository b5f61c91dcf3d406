"""What makes two runs the same, and where an unfinished one keeps its state."""

import hashlib
import inspect
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.home import home
from kdfuse.settings import SCALARS, named


def run_key(owner: str, flat: dict[str, Any], model: Any, data: Data) -> str | None:
    """What makes two runs the same; None where the data cannot be fingerprinted or a model is not built."""
    if data.fingerprint is None or not all(one.built for _, one in named_models({"model": model})):
        return None
    parts = [owner, flat, _marks(model), data.fingerprint, keras.__version__]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def state_folder(key: str) -> Path:
    """Where an unfinished run keeps what it needs to go on."""
    return home("state", key[:40])


def forget(key: str | None) -> None:
    """Drop the state of a run that finished."""
    if key is not None:
        shutil.rmtree(state_folder(key), ignore_errors=True)


def named_models(given: Mapping[str, Any]) -> Iterator[tuple[str, keras.Model]]:
    """The models among `given`, also those in tuples, by name."""
    for name, value in given.items():
        if isinstance(value, keras.Model):
            yield name, value
        elif isinstance(value, tuple):
            yield from named_models({f"{name}_{place}": item for place, item in enumerate(value)})


def _marks(model: Any) -> Any:
    if isinstance(model, tuple):
        return [_marks(one) for one in model]
    return fingerprint(model) if isinstance(model, keras.Model) else _mark_of_builder(model)


def _mark_of_builder(build: Any) -> str:
    """The name of a builder and what its code is, as far as the function itself tells."""
    code = getattr(inspect.unwrap(build) if callable(build) else build, "__code__", None)
    told = [] if code is None else [code.co_code.hex(), code.co_names, [one for one in code.co_consts if isinstance(one, SCALARS)]]
    return f"{named(build)} {hashlib.sha256(repr(told).encode()).hexdigest()[:16]}"
