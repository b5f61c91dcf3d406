"""What the techniques that go over the bridge share: what they ask of a training and a model."""

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kdfuse import recording
from kdfuse.bridge.replay import graph_of
from kdfuse.bridge.to_tf_keras import Bridged, to_tf_keras
from kdfuse.compress.training import check_training, innermost
from kdfuse.data import Data
from kdfuse.graph.copy import copy_model
from kdfuse.home import home
from kdfuse.train import Trainer


def check_bridge_training(training: Trainer) -> None:
    """Raise unless a trainer works while a tf_keras model stands in for the model that it trains."""
    check_training(training)
    train = innermost(training)
    if train.strategy is not None:
        raise ValueError(f"`training`: TFMOT trains on one device here. Received: strategy={train.strategy!r}. Give strategy=None.")
    if train.precision not in (None, "float32"):
        raise ValueError(f"`training`: TFMOT trains in float32. Received: precision={train.precision!r}. Give precision=None.")
    layers = [name for loss in getattr(training, "losses", ()) for name in getattr(loss, "student_layers", ())]
    layers += list(getattr(training, "exits", ()))
    if layers:
        raise ValueError(
            f"`training`: it reads the layers {layers} of the model, which do not run themselves on the bridge. Give losses on outputs, "
            "such as kdfuse.SoftTargets()."
        )


def check_opaque(opaque: Any) -> None:
    """Raise unless `opaque` is `auto` or names of layers."""
    if opaque != "auto" and not (isinstance(opaque, tuple) and all(isinstance(name, str) for name in opaque)):
        raise TypeError(f"`opaque`: expected 'auto' or names of layers, such as ['lambda_1']. Received: {opaque!r}.")


def cross(model: keras.Model, data: Data, opaque: tuple[str, ...] | str) -> Bridged:
    """The model on the bridge, tested on rows of the data. Opaque layers share its variables: give a private copy."""
    return to_tf_keras(model, opaque, data.example(4))


def check_crossing(model: keras.Model, data: Data, opaque: tuple[str, ...] | str) -> Bridged:
    """Raise where a model cannot cross; it stays as it is."""
    if not isinstance(model, keras.Sequential):
        graph_of(model)  # a model without a graph is told so, before anybody tries to copy it
    return cross(copy_model(model, data.example(2)), data, opaque)


def named(patterns: Iterable[str], known: Iterable[str], argument: str) -> dict[str, str]:
    """For each layer the pattern that names it, by path, by name or by a pattern with `*`.

    Raises:
        ValueError: a pattern names none.
    """
    paths = list(known)
    found: dict[str, str] = {}
    for pattern in patterns:
        hits = [path for path in paths if any(fnmatch.fnmatchcase(one, pattern) for one in (path, path.rpartition("/")[2]))]
        if not hits:
            raise ValueError(f"`{argument}`: expected names of layers that it applies to. Received: {pattern!r}. There are: {paths}.")
        found.update(dict.fromkeys(hits, pattern))
    return found


def lite_path(model: keras.Model) -> Path:
    """Where the `.tflite` file of the present run is written."""
    run = recording.current()
    return home("files", run.id if run is not None else "unrecorded", f"{model.name}.tflite")


def layer_names(bridged: Bridged) -> dict[int, tuple[str, Any]]:
    """By the `id` of each Keras 3 variable, the path of its layer and the tf_keras layer that has it."""
    homes = {id(weight): (path, layer) for path, layers in bridged.layers.items() for layer in layers for weight in layer.weights}
    return {id(mine): homes[id(theirs)] for mine, theirs in bridged.pairs}


def values(array: np.ndarray) -> int:
    """How many different values an array holds, zero among them."""
    return int(np.unique(array).size)


def bridge_notes(bridged: Bridged) -> list[str]:
    """What a reader should know of the crossing."""
    told = f"Over the bridge to tf_keras: {bridged.parameters} parameters, outputs differ by at most {bridged.difference:.1e}."
    return [told, *bridged.notes]
