"""Keras 3 to tf_keras, tested on every call."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from kdfuse.bridge.replay import Pair, Replay, graph_of

TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Bridged:
    """What `to_tf_keras` gives.

    Attributes:
        model: the tf_keras model: one flat graph that takes and gives lists, in the order of `keras.tree.flatten`.
        pairs: the Keras 3 variables with their tf.Variables.
        layers: by the path of each Keras 3 layer (`outer/inner` for a layer of a nested model) the tf_keras layers that stand for it.
        opaque: paths of the layers with weights that run as they are.
        difference: the largest difference of outputs on the example, relative to the largest output where that is above 1.
        parameters: how many numbers the weights hold, on both sides.
        notes: sentences a reader should know.
    """

    model: Any
    pairs: list[Pair]
    layers: dict[str, tuple[Any, ...]]
    opaque: tuple[str, ...]
    difference: float
    parameters: int
    notes: list[str]


def to_tf_keras(model: keras.Model, opaque: Iterable[str] | str = (), example: Any = None) -> Bridged:
    """A tf_keras model with the same graph and weights.

    Opaque layers share the variables of the Keras 3 model, all others get copies: give a private copy of a model that must stay.

    Args:
        model: a built functional or sequential model, nested ones included.
        opaque: names or paths of layers that are run as they are, in float; `"auto"` for all that tf_keras lacks.
        example: a batch of inputs for the test; random ones by default.

    Returns:
        The model and what belongs to it.

    Raises:
        ValueError: a layer has no twin, or the two models do not agree.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model`: expected a keras.Model of Keras 3. Received: {type(model).__module__}.{type(model).__name__}.")
    if isinstance(opaque, str) and opaque != "auto":
        raise ValueError(f"`opaque`: expected a tuple of names of layers or 'auto'. Received: {opaque!r}. Give ({opaque!r},).")
    graph = graph_of(model)
    replay = Replay(opaque)
    twin = replay.run(model)
    counts = [sum(int(np.prod(weight.shape)) for weight in weights) for weights in (_used(graph), twin.weights)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"`model`: {model.name!r} has {counts[0]} parameters, and {counts[1]} after the bridge. A layer holds weights that its graph "
            "does not show. Name it in `opaque`."
        )
    example = example if example is not None else random_inputs(graph)
    difference = _difference(model, graph, twin, example)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"`model`: {model.name!r} gives other values after the bridge: they differ by {difference:.3g}, allowed is {TOLERANCE:g}. "
            f"Name the layer that differs in `opaque`; the layers are {sorted(replay.made)}."
        )
    return Bridged(twin, replay.pairs, replay.made, tuple(replay.opaque_layers), difference, counts[0], replay.notes)


def random_inputs(graph: Any, rows: int = 2, size: int = 8) -> Any:
    """A batch in the model's structure: normal numbers, or 0 and 1 for integers. `size` stands for sizes that are left open."""
    rng, arrays = np.random.default_rng(0), []
    for tensor in graph.inputs:
        shape = (tensor.shape[0] or rows, *(size if one is None else one for one in tensor.shape[1:]))
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        whole = "int" in dtype or dtype == "bool"
        arrays.append((rng.integers(0, 2, shape) if whole else rng.normal(size=shape)).astype(dtype))
    return keras.tree.pack_sequence_as(graph._inputs_struct, arrays)


def _used(graph: Any) -> list[Any]:
    found: dict[int, Any] = {}
    for layer in graph.layers:
        found.update({id(weight): weight for weight in layer.weights})
    return list(found.values())


def _difference(model: Any, graph: Any, twin: Any, example: Any) -> float:
    flat = graph._standardize_inputs(example)
    structured = keras.tree.pack_sequence_as(graph._inputs_struct, flat)
    given = [keras.ops.convert_to_numpy(value) for value in keras.tree.flatten(model(structured, training=False))]
    made = [np.asarray(value) for value in keras.tree.flatten(twin(flat if len(flat) > 1 else flat[0], training=False))]
    largest = 0.0
    for one, other in zip(given, made, strict=True):
        if one.shape != other.shape:
            return float("inf")
        if one.size:
            one, other = one.astype("float64"), other.astype("float64")
            largest = max(largest, float(np.max(np.abs(one - other))) / max(1.0, float(np.max(np.abs(one)))))
    return largest
