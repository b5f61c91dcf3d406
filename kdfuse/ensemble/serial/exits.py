"""Exits on a network, and the network cut into the segments between them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.ensemble.values import Logits

EXIT = "exit_{}"
POOLS = (keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D)


@dataclasses.dataclass(frozen=True)
class Segments:
    """A network with exits, cut at them. All share their layers.

    Attributes:
        trunk: from the inputs to the first exit's features, from there to the next ..., the last one to the output.
        heads: for each exit its layers; the output has none.
        whole: from the inputs to the output.
        head: what the output and all exits are, one of `kdfuse.graph.heads.HEADS`.
    """

    trunk: list[keras.Model]
    heads: list[list[keras.Layer]]
    whole: keras.Model
    head: str

    def answer(self, place: int, features: Any) -> Any:
        """The logits that the exit at `place` gives for its features; the last one's features are the output."""
        for layer in self.heads[place]:
            features = layer(features)
        return Logits(self.head, name=f"logits_{place + 1}")(features)

    def logits(self) -> keras.Model:
        """From the inputs to the logits of all exits and of the output."""
        features = inputs = new_inputs(self.whole)
        found = []
        for place, segment in enumerate(self.trunk):
            features = segment(features)
            found.append(self.answer(place, features))
        return keras.Model(inputs, found)

    def stages(self) -> list[keras.Model]:
        """What each stage costs: its segment with its exit, on what the segment takes."""
        found = []
        for place, segment in enumerate(self.trunk):
            given = new_inputs(segment)
            found.append(keras.Model(given, self.answer(place, segment(given))))
        return found


def with_exits(model: keras.Model, at: Sequence[str], head: str) -> keras.Model:
    """A model whose outputs are those of the exits and then its own.

    Args:
        model: a private copy; its layers go into the new model.
        at: names of layers.
        head: what its output is; the exits are made alike.
    """
    columns, activation = model.outputs[0].shape[-1], head if head in ("softmax", "sigmoid") else None
    outputs = [_exit(features, columns, activation, place) for place, features in enumerate(_features(model, at), start=1)]
    return keras.Model(_inputs(model), [*outputs, model.outputs[0]], name=model.name)


def cut(model: keras.Model, at: Sequence[str], head: str, exits: bool = False) -> Segments:
    """Cut a network at layers.

    Args:
        model: a network, or with `exits` one from `with_exits`.
        at: names of layers, from the input to the output.
        head: what its output is.
        exits: whether it has them.

    Raises:
        ValueError: a layer that it does not have, or that is not the only way to what lies behind it.
    """
    points = _features(model, at)
    ends, starts = [*points, model.outputs[-1]], [_inputs(model), *points]
    trunk = []
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        name = at[place - 1] if place else "the input"
        try:
            trunk.append(keras.Model(start, end, name=f"segment_{place + 1}"))
        except ValueError as error:
            raise ValueError(
                f"`at`: expected layers that everything behind them goes through, in order. Received: {list(at)!r}: what lies behind "
                f"{name!r} also reads something else, such as a branch around it or a mask. Name the layer at the end of a block."
            ) from error
    heads = [[model.get_layer(EXIT.format(place + 1))] if exits else [] for place in range(len(at))]
    return Segments(trunk, [*heads, []], keras.Model(starts[0], ends[-1], name=model.name), head)


def new_inputs(model: keras.Model) -> Any:
    """Inputs like those of a model, in their structure."""
    return keras.tree.map_structure(lambda one: keras.Input(one.shape[1:], dtype=one.dtype), model.input)


def _inputs(model: keras.Model) -> Any:
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _features(model: keras.Model, at: Sequence[str]) -> list[Any]:
    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    found = []
    for name in at:
        if name not in names:
            raise ValueError(f"`at`: expected names of layers of {model.name!r}. Received: {name!r}. It has: {', '.join(names)}.")
        layer = model.get_layer(name)
        if sum(node.operation is layer for nodes in getattr(model, "_nodes_by_depth", {}).values() for node in nodes) > 1:
            raise ValueError(f"`at`: expected layers that are called once. Received: {name!r}, which is called several times.")
        features = layer.output
        rank = None if keras.tree.is_nested(features) else len(features.shape)
        if rank is None or not 2 <= rank <= 2 + len(POOLS) or any(features is one for one in model.outputs):
            raise ValueError(
                f"`at`: expected layers before the output that give one tensor [rows, ..., channels] of 2 to 5 axes. Received: {name!r}, "
                f"which is the output or gives {keras.tree.map_structure(lambda one: one.shape, features)}."
            )
        found.append(features)
    return found


def _exit(features: Any, columns: int, activation: str | None, place: int) -> Any:
    given = keras.Input(features.shape[1:], dtype=features.dtype)
    pooled = given if len(features.shape) == 2 else POOLS[len(features.shape) - 3](dtype="float32")(given)
    dense = keras.layers.Dense(columns, activation, kernel_initializer=keras.initializers.GlorotUniform(place), dtype="float32")
    return keras.Model(given, dense(pooled), name=EXIT.format(place))(features)
