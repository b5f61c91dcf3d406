"""What a teacher says of a batch, how it travels with the data, and the short form of its logits.

A lesson is `{"logits": structure of float32 [batch, ..., classes]}`, with `"features": (tensors)` where a loss asks for them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse import arrays
from kdfuse.arrays import Structure
from kdfuse.distill.outputs import like
from kdfuse.distill.structure import flat
from kdfuse.splits import ArraySplit

Tensor = Any
Lesson = dict[str, Any]
INPUTS, LESSONS, ROWS = "kdfuse_inputs", "kdfuse_lessons", "kdfuse_rows"
"""The parts of x where something comes with the inputs."""
TOP = {"top_values", "top_places", "rest"}
"""The parts of logits in their short form."""


class TaughtSplit(ArraySplit):
    """Rows with what comes with them while a student is trained: what the split tells is as before, its batches carry a dict as x.

    Args:
        split: the rows.
        lessons: one for each teacher, or None where the teachers run in every step.
        views: the inputs again, several times, one view of all rows after the other; the lessons are on these.
        numbered: whether the numbers of the rows come too.
    """

    def __init__(
        self, split: ArraySplit, lessons: tuple[Lesson, ...] | None, *, views: ArraySplit | None = None, numbered: bool = False
    ) -> None:
        super().__init__(split.x, split.y, split.sample_weight, name="train")
        seen = split if views is None else views
        times = len(seen) // len(split)
        x: dict[str, Any] = {INPUTS: seen.x}
        if lessons is not None:
            x[LESSONS] = lessons
        if numbered:
            x[ROWS] = np.tile(np.arange(len(split), dtype=np.int32), times)
        repeated = arrays.map_leaves(lambda leaf: np.tile(leaf, (times,) + (1,) * (leaf.ndim - 1)) if times > 1 else leaf, split.y)
        weights = split.sample_weight
        if weights is not None and times > 1:
            weights = arrays.map_leaves(lambda leaf: np.tile(leaf, (times,) + (1,) * (leaf.ndim - 1)), weights)
        self._taught = ArraySplit(x, repeated, weights, name="train, with the teacher's outputs,", views=times)

    def dataset(self, batch_size: int, *, seed: int | None = None, start: int = 0, epochs: int = 1) -> tf.data.Dataset:
        return self._taught.dataset(batch_size, seed=seed, start=start, epochs=epochs)

    def map_inputs(self, function: Callable[[Structure], Structure], x: Structure) -> Structure:
        return {**x, INPUTS: function(x[INPUTS])}


def parts_of(x: Any) -> tuple[Any, tuple[Lesson, ...] | None, Any]:
    """Inputs, lessons and row numbers of the x of a batch; None for what does not come with it."""
    return (x[INPUTS], x.get(LESSONS), x.get(ROWS)) if isinstance(x, Mapping) and INPUTS in x else (x, None, None)


def short(lesson: Lesson, top_k: int) -> Lesson:
    """A lesson whose logits keep the `top_k` largest of each row, and one value that stands for each of the others.

    That value gives the others the probability (T = 1) that they have together. Logits of no more than `top_k + 1` classes
    stay whole.
    """
    return {**lesson, "logits": like(lesson["logits"], [_short(leaf, top_k) for leaf in flat(lesson["logits"])])}


def whole(lesson: Lesson, outputs: Any) -> Lesson:
    """The lesson with logits over all classes, where they came in the short form.

    Args:
        lesson: of a batch.
        outputs: the student's logits, whose last axes tell the numbers of classes.
    """
    return {**lesson, "logits": _whole(lesson["logits"], outputs)}


def _short(logits: Tensor, top_k: int) -> Any:
    classes = logits.shape[-1]
    if classes <= top_k + 1:
        return logits
    values, places = keras.ops.top_k(logits, classes)
    rest = keras.ops.logsumexp(values[..., top_k:], axis=-1) - float(np.log(classes - top_k))
    return {"top_values": values[..., :top_k], "top_places": keras.ops.cast(places[..., :top_k], "int32"), "rest": rest}


def _whole(structure: Any, outputs: Any) -> Any:
    if isinstance(structure, Mapping) and set(structure) == TOP:
        classes = (flat(outputs)[0] if isinstance(outputs, Mapping | list | tuple) else outputs).shape[-1]
        values, rest = (keras.ops.cast(structure[name], "float32") for name in ("top_values", "rest"))
        spots = keras.ops.one_hot(structure["top_places"], classes, dtype="float32")
        return keras.ops.sum(spots * values[..., None], axis=-2) + (1.0 - keras.ops.sum(spots, axis=-2)) * rest[..., None]
    if isinstance(structure, Mapping):
        by_name = isinstance(outputs, Mapping)
        others = outputs if by_name else dict(zip(structure, flat(outputs), strict=True))
        return {name: _whole(value, others[name]) for name, value in structure.items()}
    if isinstance(structure, list | tuple):
        return [_whole(value, output) for value, output in zip(structure, flat(outputs), strict=True)]
    return structure
