"""Exits on a network, and the network cut into the segments between them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.ensemble.values import Logits

EXIT = "exit_{}"


@dataclasses.dataclass(frozen=True)
class Segments:
    """A network with exits, cut at them. All share their layers.

    Attributes:
        trunk: from the inputs to the first exit's features, from there to the next ..., the last one to the output.
        heads: for each exit its layers; the output has none.
        whole: from the inputs to the output.
        head: what the output is, set by `logits`.
    """

    trunk: list[keras.Model]
    heads: list[list[keras.Layer]]
    whole: keras.Model
    head: list[str] = dataclasses.field(default_factory=list)

    def answer(self, place: int, features: Any) -> Any:
        """The logits that the exit at `place` gives for its features; the last one's features are the output."""
        for layer in self.heads[place]:
            features = layer(features)
        return Logits(self.head[place], name=f"logits_{place + 1}")(features)

    def logits(self, head: str) -> keras.Model:
        """From the inputs to the logits of all exits and of the output.

        Args:
            head: of the network; the exits have the same.
        """
        self.head[:] = [head] * len(self.trunk)
        features = inputs = keras.tree.map_structure(lambda one: keras.Input(one.shape[1:], dtype=one.dtype), self.whole.input)
        found = []
        for place, segment in enumerate(self.trunk):
            features = segment(features)
            found.append(self.answer(place, features))
        return keras.Model(inputs, found)

    def stages(self) -> list[keras.Model]:
        """What each stage costs: its segment with its exit, on what the segment takes."""
        found = []
        for place, segment in enumerate(self.trunk):
            given = keras.tree.map_structure(lambda one: keras.Input(one.shape[1:], dtype=one.dtype), segment.input)
            found.append(keras.Model(given, self.answer(place, segment(given))))
        return found


def with_exits(model: keras.Model, at: Sequence[str]) -> keras.Model:
    """A model whose outputs are those of the exits and then its own.

    Args:
        model: a private copy; its layers go into the new model.
        at: names of layers.
    """
    columns, last = model.outputs[0].shape[-1], model.layers[-1]
    activation = getattr(last, "activation", None)
    outputs = []
    for place, features in enumerate(_features(model, at), start=1):
        outputs.append(_exit(features.shape, columns, activation, place)(features))
    return keras.Model(model.inputs if len(model.inputs) > 1 else model.inputs[0], [*outputs, model.outputs[0]], name=model.name)


def cut(model: keras.Model, at: Sequence[str], exits: bool = False) -> Segments:
    """Cut a network at layers.

    Args:
        model: a network, or with `exits` one from `with_exits`.
        at: names of layers, from the input to the output.
        exits: whether it has them.

    Raises:
        ValueError: a layer that it does not have, or that is not the only way to what lies behind it.
    """
    points = _features(model, at)
    ends = [*points, model.outputs[-1]]
    starts = [model.inputs if len(model.inputs) > 1 else model.inputs[0], *points]
    trunk = []
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        name = at[place - 1] if place else "the input"
        try:
            trunk.append(keras.Model(start, end, name=f"segment_{place + 1}"))
        except ValueError as error:
            raise ValueError(
                f"`at`: expected layers that everything behind them goes through, in order. Received: {list(at)!r}: what lies behind "
                f"{name!r} also reads something else. Name the layer at the end of a block."
            ) from error
    heads = [[model.get_layer(EXIT.format(place + 1))] if exits else [] for place in range(len(at))]
    return Segments(trunk, [*heads, []], keras.Model(starts[0], ends[-1], name=model.name))


def _features(model: keras.Model, at: Sequence[str]) -> list[Any]:
    names = [layer.name for layer in model.layers]
    for name in at:
        if name not in names:
            raise ValueError(f"`at`: expected names of layers of {model.name!r}. Received: {name!r}. It has: {', '.join(names)}.")
    return [model.get_layer(name).output for name in at]


def _exit(shape: Sequence[int | None], columns: int, activation: Any, place: int) -> keras.Model:
    given = keras.Input(tuple(shape[1:]))
    axes = len(shape) - 2
    features = given
    if axes:
        pooling = {1: keras.layers.GlobalAveragePooling1D, 2: keras.layers.GlobalAveragePooling2D, 3: keras.layers.GlobalAveragePooling3D}
        features = pooling[axes]()(given)
    made = keras.layers.Dense(columns, activation, kernel_initializer=keras.initializers.GlorotUniform(place))(features)
    return keras.Model(given, made, name=EXIT.format(place))
