"""Contrastive representation distillation: a row's two representations are told from those of other rows."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.distill.losses.base import Tensor, positive
from kdfuse.distill.losses.features import FeatureLoss, Layers, Shape, flatten
from kdfuse.distill.losses.relations import kept, unit


@keras.saving.register_keras_serializable("kdfuse")
class CRD(FeatureLoss):
    """The noise-contrastive loss of telling a row's own representation from those of other rows.

    Linear maps of the flattened features, divided by their length, represent each row for teacher and student. Two memories
    keep a representation of every row of the training split: after each step the rows of the batch move there by
    `1 - momentum`, divided by their length again. With `s` the student's representation of a row and `t_n` the memory of the
    teacher's, `-[log h(t_own) + sum_n log(1 - h(t_n))]`, `h(t) = e / (e + K / N)`, `e = exp(s . t / temperature) / Z`; the
    same with the two changed over is added. K is the number of negatives, N that of the rows, and Z, estimated from the first
    batch, is kept.

    The negatives of a step are drawn once for the whole batch, where the paper draws them for each row: a matrix product in
    place of a gather. A row itself never is its own negative, nor are rows of its class as far as labels are known; K is
    what is left for it. Each step copies both memories, `rows * dim` numbers each. Representations follow training data by
    row number, so data without an order (`tf.data`) cannot be used, and training is on one replica.

    Tian, Krishnan, Isola: Contrastive Representation Distillation, 2019 (arXiv 1910.10699). The paper gives this loss the weight
    0.8, the labels 1.

    Args:
        dim: of the representations, from 1.
        negatives: how many rows are drawn in a step, from 1. From as many as the training split has besides the row, all
            are taken and nothing is drawn.
        temperature: above 0. Lower values make close negatives count more.
        momentum: the share of the old value that a memory keeps, in [0, 1).
        teacher_layer_name: see `FeatureLoss`.
        student_layer_name: see `FeatureLoss`.
    """

    matches = False
    needs_parts = True
    needs_rows = True

    def __init__(
        self,
        dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        teacher_layer_name: Layers = None,
        student_layer_name: Layers = None,
    ) -> None:
        super().__init__(teacher_layer_name, student_layer_name)
        self.dim, self.negatives = _count("dim", dim), _count("negatives", negatives)
        self.temperature = positive("temperature", temperature)
        if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0 <= momentum < 1:
            raise ValueError(f"`momentum`: expected a number in [0, 1). Received: momentum={momentum!r}.")
        self.momentum = float(momentum)

    def build(self, teacher_shapes: Sequence[Shape], student_shapes: Sequence[Shape], rows: int | None = None) -> None:
        super().build(teacher_shapes, student_shapes, rows)
        if rows is None:
            raise ValueError(_without_rows(rows))
        if rows < 2:
            raise ValueError(f"CRD contrasts a row with others: it needs a training split of at least 2 rows. Received: {rows}.")
        parts = []
        for place, (teacher, student) in enumerate(zip(teacher_shapes, student_shapes, strict=True)):
            widths = [_width(shape) for shape in (teacher, student)]
            part = _Memories(rows, self.dim, min(self.negatives, rows), self.temperature, self.momentum, place, name=f"{self.name}_{place}")
            part.build(widths)
            parts.append(part)
        self.parts = parts

    def compare(self, teacher_features: Tensor, student_features: Tensor, weights: Tensor, place: int, **context: Any) -> Tensor:
        rows = context.get("rows")
        if rows is None:
            raise ValueError(_without_rows(rows))
        rows = keras.ops.cast(keras.ops.reshape(rows, (-1,)), "int32")
        teacher, student = (kept(flatten(features), weights) for features in (teacher_features, student_features))
        values = self.parts[place](teacher, student, weights, rows, context.get("labels"))
        return weights * values


class _Memories(keras.layers.Layer):
    """Representations of teacher and student, their memories and the loss between them.

    Args:
        rows: of the training split.
        dim: of the representations.
        negatives: drawn in a step; from `rows - 1` all rows are taken.
        temperature: of the similarities.
        momentum: of the memories.
        place: of the pair of layers: seeds differ from one to the next.
        name: of the layer.
    """

    def __init__(self, rows: int, dim: int, negatives: int, temperature: float, momentum: float, place: int, name: str) -> None:
        super().__init__(dtype="float32", name=name)
        self.rows, self.dim, self.negatives, self.temperature, self.momentum = rows, dim, negatives, temperature, momentum
        self.place = place
        self.draws = negatives < rows - 1
        self.generator = keras.random.SeedGenerator(place) if self.draws else None

    def build(self, widths: Any) -> None:
        bound = 1 / math.sqrt(self.dim / 3)
        self.maps, self.memories = [], []
        for side, (width, who) in enumerate(zip(widths, ("teacher", "student"), strict=True)):
            seed = 4 * self.place + side
            layer = keras.layers.Dense(
                self.dim, kernel_initializer=keras.initializers.GlorotUniform(seed), dtype="float32", name=f"{who}_representation"
            )
            layer.build((None, width))
            self.maps.append(layer)
            start = keras.initializers.RandomUniform(-bound, bound, seed=seed + 2)
            self.memories.append(self._kept((self.rows, self.dim), start, "float32", f"{who}_memory"))
        self.classes = self._kept((self.rows,), keras.initializers.Constant(-1), "int", "classes")
        self.log_z = self._kept((2,), "zeros", "float32", "log_z")
        self.known = self._kept((), "zeros", "float32", "log_z_known")
        self.built = True

    def call(self, teacher: Tensor, student: Tensor, weights: Tensor, rows: Tensor, labels: Any) -> Tensor:
        counts = weights > 0
        classes = self._learnt(rows, counts, labels)
        drawn, allowed = self._negatives(rows, classes)
        new = [unit(layer(features)) for layer, features in zip(self.maps, (teacher, student), strict=True)]
        old = [keras.ops.convert_to_tensor(memory) for memory in self.memories]
        own, others = [], []
        for representation, memory in zip(new, reversed(old), strict=True):
            kept = memory if drawn is None else keras.ops.take(memory, drawn, axis=0)
            own.append(keras.ops.sum(representation * keras.ops.take(memory, rows, axis=0), axis=-1) / self.temperature)
            others.append(keras.ops.matmul(representation, keras.ops.transpose(kept)) / self.temperature)
        log_z = self._normalisers(own, others, allowed, counts)
        noise = keras.ops.sum(allowed, axis=-1)
        log_noise = keras.ops.log(keras.ops.maximum(noise, 1.0) / self.rows)
        total: Tensor = 0.0
        for side in range(2):
            of_own = keras.ops.softplus(log_noise + log_z[side] - own[side])
            of_others = keras.ops.softplus(others[side] - log_z[side] - log_noise[:, None])
            total = total + of_own + keras.ops.sum(allowed * of_others, axis=-1)
        for variable, memory, representation in zip(self.memories, old, new, strict=True):
            variable.assign(self._moved(memory, representation, rows, counts))
        # Without a negative there is nothing to tell a row from.
        return keras.ops.where(noise > 0, total, keras.ops.zeros_like(total))

    def _kept(self, shape: tuple[int, ...], initializer: Any, dtype: str, name: str) -> Any:
        return self.add_weight(shape=shape, initializer=initializer, dtype=dtype, trainable=False, autocast=False, name=name)

    def _learnt(self, rows: Tensor, counts: Tensor, labels: Any) -> Tensor:
        """The class of every row, -1 where it is not known, after those of this batch."""
        classes = keras.ops.convert_to_tensor(self.classes)
        if labels is None:
            return classes
        given = keras.ops.where(counts, keras.ops.cast(labels, classes.dtype), keras.ops.take(classes, rows))
        classes = keras.ops.scatter_update(classes, rows[:, None], given)
        self.classes.assign(classes)
        return classes

    def _negatives(self, rows: Tensor, classes: Tensor) -> tuple[Any, Tensor]:
        """The rows that are drawn (None: all), and float32 `[batch, negatives]`: 1 where one is a negative of a row."""
        drawn = None
        candidates, theirs = keras.ops.arange(self.rows, dtype="int32"), classes
        if self.draws:
            drawn = candidates = keras.random.randint((self.negatives,), 0, self.rows, dtype="int32", seed=self.generator)
            theirs = keras.ops.take(classes, drawn)
        mine = keras.ops.take(classes, rows)[:, None]
        alike = keras.ops.logical_and(mine >= 0, mine == theirs[None])
        same = keras.ops.logical_or(rows[:, None] == candidates[None], alike)
        return drawn, 1.0 - keras.ops.cast(same, "float32")

    def _normalisers(self, own: list[Tensor], others: list[Tensor], allowed: Tensor, counts: Tensor) -> Tensor:
        """`[2]`, log Z of both directions: log of N times the mean of exp(s . t / temperature), from the first batch on."""
        part = keras.ops.concatenate([keras.ops.ones_like(own[0])[:, None], allowed], axis=1) * keras.ops.cast(counts, "float32")[:, None]
        log_count = keras.ops.log(keras.ops.maximum(keras.ops.sum(part), 1.0))
        found = []
        for one, other in zip(own, others, strict=True):
            scores = keras.ops.concatenate([one[:, None], other], axis=1)
            scores = keras.ops.where(part > 0, scores, keras.ops.full_like(scores, -1e30))
            found.append(keras.ops.logsumexp(scores) - log_count + math.log(self.rows))
        log_z = keras.ops.where(self.known > 0, self.log_z, keras.ops.stop_gradient(keras.ops.stack(found)))
        anyone = keras.ops.cast(keras.ops.any(counts), "float32")
        self.log_z.assign(keras.ops.where(anyone > 0, log_z, self.log_z))
        self.known.assign(keras.ops.maximum(self.known, anyone))
        return log_z

    def _moved(self, memory: Tensor, representation: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
        """The memory after this batch."""
        before = keras.ops.take(memory, rows, axis=0)
        after = unit(self.momentum * before + (1 - self.momentum) * keras.ops.stop_gradient(representation))
        return keras.ops.scatter_update(memory, rows[:, None], keras.ops.where(counts[:, None], after, before))


def _width(shape: Shape) -> int:
    sizes = [size for size in shape[1:] if size is not None]
    if len(sizes) < len(shape) - 1:
        raise ValueError(
            f"CRD flattens features: it needs sizes that are known. Received: features of shape {shape}. Choose a pooled layer."
        )
    return math.prod(sizes)


def _without_rows(rows: Any) -> str:
    return (
        f"CRD remembers a representation of every training row, so it needs their numbers. Received: rows={rows}. Distil on arrays in "
        "kdfuse.Distill (streams such as `tf.data` have no row numbers), or use a loss without memories, such as `RKD`."
    )


def _count(argument: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{argument}`: expected a whole number from 1. Received: {argument}={value!r}.")
    return value
