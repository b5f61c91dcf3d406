"""Knowledge review: each layer of the teacher is learnt from the student's layers of that depth and below it."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.distill.losses.base import Tensor
from kdfuse.distill.losses.features import FeatureLoss, Shape, row_means
from kdfuse.distill.losses.relations import kept, present
from kdfuse.distill.projectors import matched_shapes

WIDEST = 512
LEVELS = (4, 2, 1)


@keras.saving.register_keras_serializable("kdfuse")
class ReviewKD(FeatureLoss):
    """The student's features, fused from the deepest layer to the shallowest, against the teacher's at several resolutions.

    From deep to shallow, attention-based fusion brings a layer of the student to m channels (1x1), m the deepest layer's but
    512 at most, enlarges what came from below to its size, and adds the two, each times a map of weights: a sigmoid of a linear
    map of both. What comes out goes on to the next layer, and through a 3x3 convolution it is compared with the teacher's
    features there: `mean (F_s - F_t)^2` at full size and averaged to 4, 2 and 1 positions along each axis where they have
    more, with the weights 1, 1/2, 1/4, 1/8 divided by their sum; summed over the layers. Every convolution is followed by a
    normalisation over the batch, in which rows of weight 0 have no part, so the value depends on the batch. Sequences are
    treated like images of one axis, without the steps that are masked. Vectors have one resolution and linear maps; below a
    map a vector counts as a map of one position.

    Chen and others: Distilling Knowledge via Knowledge Review, 2021 (arXiv 2104.09044). The paper's weights are 0.6 to 8
    beside a label weight of 1, reached over 20 epochs from 0.

    Args:
        teacher_layer_name: two to four layers, from shallow to deep; see `FeatureLoss`. With one layer nothing is fused.
        student_layer_name: see `FeatureLoss`.
    """

    needs_parts = True

    def build(self, teacher_shapes: Sequence[Shape], student_shapes: Sequence[Shape], rows: int | None = None) -> None:
        super().build(teacher_shapes, student_shapes, rows)
        shapes = [matched_shapes(teacher, student) for teacher, student in zip(teacher_shapes, student_shapes, strict=True)]
        axes = {len(own) - 2 for own, _ in shapes}
        if len(axes - {0}) > 1:
            raise ValueError(f"ReviewKD: expected layers of images or of sequences, not both. Received: the shapes {student_shapes}.")
        if any(None in own[1:-1] for own, _ in shapes):
            raise ValueError(f"ReviewKD: features need sizes that are known. Received: {teacher_shapes} and {student_shapes}.")
        middle = min(WIDEST, shapes[-1][1][-1] or WIDEST)
        sizes = [own[1:-1] or (1,) * max(axes) for own, _ in shapes]
        self.parts = [
            _Fusion(middle, own[-1], sizes[place], place < len(shapes) - 1, place, name=f"{self.name}_{place}")
            for place, (own, _) in enumerate(shapes)
        ]
        for part, (_, other) in zip(self.parts, shapes, strict=True):
            part.build(other[-1])

    def compare_all(self, pairs: Sequence[tuple[Tensor, Tensor]], weights: Tensor, **context: Any) -> Tensor:
        values, below = keras.ops.zeros_like(weights), None
        masks = context.get("masks") or [None] * len(pairs)
        for part, (teacher, student), mask in reversed(list(zip(self.parts, pairs, masks, strict=True))):
            teacher, student = (_placed(kept(features, weights), part.sizes) for features in (teacher, student))
            steps = None if mask is None else keras.ops.reshape(mask, (-1, mask.shape[1], *[1] * len(part.sizes)))
            output, below = part(student, below, present(weights), steps)
            values = values + _pyramid(output - teacher, mask)
        return weights * values


class _Fusion(keras.layers.Layer):
    """One step of the fusion.

    Args:
        middle: channels of what is handed on.
        channels: of the teacher's features.
        sizes: of the features' axes between batch and channels.
        fused: whether something comes from below.
        place: of the pair of layers: seeds differ from one to the next.
        name: of the layer.
    """

    def __init__(self, middle: int, channels: Any, sizes: Any, fused: bool, place: int, name: str) -> None:
        super().__init__(dtype="float32", name=name)
        self.sizes, self.middle, seed = tuple(sizes), middle, 3 * place
        self.entry = _linear(middle, seed, "entry", use_bias=False)
        self.entry_norm = _Norm(dtype="float32", name="entry_norm")
        self.exit = _convolution(len(self.sizes), channels, seed + 1, "exit")
        self.exit_norm = _Norm(dtype="float32", name="exit_norm")
        self.attention = _linear(2, seed + 2, "attention", activation="sigmoid") if fused else None

    def build(self, channels: Any) -> None:
        self.entry.build((None, *self.sizes, channels))
        self.exit.build((None, *self.sizes, self.middle))
        self.entry_norm.build(self.middle)
        self.exit_norm.build(self.exit.units if isinstance(self.exit, keras.layers.Dense) else self.exit.filters)
        if self.attention is not None:
            self.attention.build((None, *self.sizes, 2 * self.middle))
        self.built = True

    def call(self, features: Tensor, below: Any, among: Tensor, steps: Any = None) -> tuple[Tensor, Tensor]:
        among = keras.ops.reshape(among, (-1, *[1] * (len(self.sizes) + 1)))
        among = among if steps is None else among * steps
        features = self.entry_norm(self.entry(features), among)
        if self.attention is not None:
            below = _nearest(below, self.sizes)
            share = self.attention(keras.ops.concatenate([features, below], axis=-1))
            features = features * share[..., :1] + below * share[..., 1:]
        features = features if steps is None else features * steps
        return self.exit_norm(self.exit(features), among), features


class _Norm(keras.layers.Layer):
    """Batch normalisation over the rows and steps that count, 1 in `among` (`[batch, steps or 1, 1 ...]`).

    It is used in training alone, so it keeps no moving averages.
    """

    def build(self, channels: Any) -> None:
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")
        self.built = True

    def call(self, features: Tensor, among: Tensor) -> Tensor:
        axes = tuple(range(len(features.shape) - 1))
        each = math.prod(own // given for own, given in zip(tuple(features.shape)[1:-1], tuple(among.shape)[1:-1], strict=True))
        share = among / keras.ops.maximum(each * keras.ops.sum(among), 1.0)
        centred = features - keras.ops.sum(share * features, axis=axes)
        variance = keras.ops.sum(share * keras.ops.square(centred), axis=axes)
        return centred * keras.ops.rsqrt(variance + 1e-5) * self.gamma + self.beta


def _linear(units: Any, seed: int, name: str, **settings: Any) -> keras.Layer:
    return keras.layers.Dense(units, kernel_initializer=keras.initializers.LecunUniform(seed), dtype="float32", name=name, **settings)


def _convolution(axes: int, channels: Any, seed: int, name: str) -> keras.Layer:
    """3 positions wide along each axis; without axes a linear map."""
    if not axes:
        return _linear(channels, seed, name, use_bias=False)
    kind = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[axes]
    start = keras.initializers.LecunUniform(seed)
    settings = {"padding": "same", "use_bias": False, "data_format": "channels_last", "dtype": "float32"}
    return kind(channels, 3, kernel_initializer=start, name=name, **settings)


def _placed(features: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Features with all their axes: a vector below a map is one of one position."""
    return keras.ops.reshape(features, (keras.ops.shape(features)[0], *sizes, features.shape[-1]))


def _nearest(features: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Features at other sizes, each position with the nearest one's values."""
    for axis, (size, own) in enumerate(zip(sizes, tuple(features.shape)[1:-1], strict=True), start=1):
        if size != own:
            features = keras.ops.take(features, np.arange(size) * own // size, axis=axis)
    return features


def _pyramid(difference: Tensor, mask: Any = None) -> Tensor:
    """`[batch]`: the weighted mean square at all resolutions; averaging is linear, so the difference is averaged."""
    sizes = tuple(difference.shape)[1:-1]
    values, total, weight = row_means(keras.ops.square(difference), mask), 1.0, 1.0
    if mask is not None:
        steps = keras.ops.reshape(mask, (-1, mask.shape[1], *[1] * len(sizes)))
        difference = difference * steps
    for level in LEVELS:
        if all(level >= size for size in sizes):
            continue
        pooled, weight, left = difference, weight / 2, None
        for axis, size in enumerate(sizes, start=1):
            pooled = _averaged(pooled, axis, min(level, size))
        if mask is not None:
            share = _averaged(steps, 1, min(level, sizes[0]))
            pooled = pooled / keras.ops.where(share > 0, share, keras.ops.ones_like(share))
            left = keras.ops.cast(keras.ops.reshape(share, (-1, share.shape[1])) > 0, "float32")
        values, total = values + weight * row_means(keras.ops.square(pooled), left), total + weight
    return values / total


def _averaged(features: Tensor, axis: int, size: int) -> Tensor:
    """An axis at a smaller size: means over windows of equal length, as near as its size allows."""
    own = features.shape[axis]
    windows = np.zeros((own, size), "float32")
    for place in range(size):
        start, stop = place * own // size, -(-(place + 1) * own // size)
        windows[start:stop, place] = 1 / (stop - start)
    return keras.ops.moveaxis(keras.ops.tensordot(features, windows, axes=[[axis], [0]]), -1, axis)
