"""SavedModel: a model as the folder that TensorFlow Serving and TensorFlow itself read."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kdfuse.export.quiet import quiet
from kdfuse.export.signature import in_float32, match_inputs, restore_outputs, trace

KEY, NOTE, GRAPH = "serving_default", "kdfuse.json", "saved_model.pb"


def save_saved_model(model: Any, path: str | os.PathLike[str], *, example: Any = None) -> Path:
    """Write a model, in inference mode, as a SavedModel folder in one step; an earlier SavedModel there is replaced whole.

    Args:
        model: a Keras 3 or tf_keras model; it is only read.
        path: a folder: a new one, an empty one, or one that holds a SavedModel.
        example: a batch of inputs, for a subclassed model, which does not say what it takes.

    Returns:
        The path. Its signature `serving_default` has the names that `kdfuse.export.signature.trace` gives.

    Raises:
        ValueError: the folder holds something else, or the model cannot be traced.
    """
    traced = trace(in_float32(model, example), example)
    with atomic_folder(path) as temporary:
        with quiet():
            tf.saved_model.save(traced.module, str(temporary), signatures={KEY: traced.function})
        # A signature has names but no order.
        (temporary / NOTE).write_text(json.dumps({"inputs": traced.inputs, "outputs": traced.outputs}))
    return Path(path)


class SavedModel:
    """A SavedModel folder as a callable: one batch in, NumPy out, in the structure of the model it was made from.

    Args:
        path: the folder.

    Attributes:
        inputs: names of the inputs, in the order of the original model's.
        outputs: names of the outputs.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no SavedModel, a damaged one, or one without the signature `serving_default`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        folder = Path(path)
        if not folder.exists():
            raise FileNotFoundError(f"`path`: there is no folder {folder}.")
        if not (folder / GRAPH).is_file():
            raise ValueError(f"`path`: expected a folder that holds a {GRAPH}. Received: {folder}.")
        try:
            with quiet():
                self._loaded = tf.saved_model.load(str(folder))
            function = self._loaded.signatures[KEY]
            note = json.loads((folder / NOTE).read_text()) if (folder / NOTE).is_file() else {}
        except Exception as error:
            raise ValueError(
                f"`path`: the SavedModel {folder} cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())[:300]}. "
                "Copy it again from its source, or write it again."
            ) from error
        self._function, self._specs = function, function.structured_input_signature[1]
        self.inputs: list[str] = note.get("inputs", sorted(self._specs))
        self.outputs: list[str] = note.get("outputs", sorted(function.structured_outputs))

    def __call__(self, inputs: Any) -> Any:
        """The outputs of one batch, as NumPy."""
        arrays = match_inputs(inputs, self.inputs)
        given = {name: tf.constant(np.asarray(array), self._specs[name].dtype) for name, array in zip(self.inputs, arrays, strict=True)}
        found = self._function(**given)
        return restore_outputs({name: found[name].numpy() for name in self.outputs})


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success it takes the place of `path`, else nothing is left of it.

    Raises:
        ValueError: `path` is a file, or a folder with something else than a SavedModel in it.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and ((target / GRAPH).is_file() or not any(target.iterdir()))):
        raise ValueError(
            f"`path`: expected a new or empty folder, or one with a SavedModel. Received: {target}, which holds something else."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}-{target.name}")
    former = temporary.with_name(f"{temporary.name}-former")
    try:
        yield temporary
        if target.exists():
            os.replace(target, former)
        try:
            os.replace(temporary, target)
        except OSError:
            if former.exists():
                os.replace(former, target)
            raise
    finally:
        for folder in (temporary, former):
            shutil.rmtree(folder, ignore_errors=True)
