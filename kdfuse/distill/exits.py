"""The model that is fitted while a model learns from itself through exits along its depth."""

import math
import threading
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common.stateless_scope import in_stateless_scope

from kdfuse.distill.losses.base import mean_over_batch
from kdfuse.distill.losses.soft_targets import divergence
from kdfuse.distill.outputs import logits_of
from kdfuse.graph.taps import Taps, shapes

Tensor = Any
CELLS = 4
"""Along each axis of an image an exit sees at most so many means."""
TERMS = ("label_loss", "soft_targets_loss", "features_loss")


class Exit(keras.layers.Layer):
    """A classifier on features inside a model: average pooling, a bottleneck as wide as the deepest features, and the head.

    Args:
        width: of the deepest features.
        columns: of the model's output.
        activation: of the model's output.
        seed: of the weights.
    """

    def __init__(self, width: int, columns: int, activation: str | None, seed: int, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        glorot = keras.initializers.GlorotUniform
        self.bottleneck = keras.layers.Dense(width, kernel_initializer=glorot(seed), dtype="float32", name="bottleneck")
        self.head = keras.layers.Dense(columns, activation, kernel_initializer=glorot(seed + 1), dtype="float32", name="head")

    def build(self, shape: Any) -> None:
        self.bottleneck.build((None, gridded(keras.ops.zeros((1, *(size or 1 for size in shape[1:])))).shape[-1]))
        self.head.build((None, self.bottleneck.units))

    def call(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The bottleneck's features `[batch, width]` and the outputs `[batch, columns]`."""
        narrow = self.bottleneck(gridded(features))
        return narrow, self.head(keras.ops.relu(narrow))


def pooled(features: Tensor) -> Tensor:
    """The float32 mean `[batch, channels]` of features `[batch, ..., channels]`, over the steps that a Keras mask keeps."""
    mask = getattr(features, "_keras_mask", None)
    features = keras.ops.cast(features, "float32")
    axes = tuple(range(1, len(features.shape) - 1))
    if mask is None or len(mask.shape) != len(features.shape) - 1 or not axes:
        return keras.ops.mean(features, axis=axes) if axes else features
    kept = keras.ops.expand_dims(keras.ops.cast(mask, "float32"), -1)
    return keras.ops.sum(features * kept, axis=axes) / keras.ops.maximum(keras.ops.sum(kept, axis=axes), 1.0)


def gridded(features: Tensor) -> Tensor:
    """Features as `[batch, values]`: of an image the means of at most `CELLS` cells along each axis, of all else `pooled`.

    A mean over a whole image would hide where things are, which early layers know and their channels do not tell.
    """
    sizes = features.shape[1:-1]
    if len(sizes) < 2 or None in sizes:
        return pooled(features)
    window = tuple(-(-size // CELLS) for size in sizes)
    cells = keras.ops.average_pool(keras.ops.cast(features, "float32"), window, window, padding="same", data_format="channels_last")
    return keras.ops.reshape(cells, (-1, math.prod(cells.shape[1:])))


class ExitDistiller(keras.Model):
    """A model with exits on some of its layers; `fit` trains the model in place, and the exits beside it.

    The loss of a step is `CE(deepest) + (1 - alpha) * sum CE(exit) + alpha * T^2 * sum KL(deepest || exit) + feature_weight *
    sum |features(exit) - deepest features|^2`, sums over the exits, means over the batch, and the model's regularisers. CE is
    the compiled loss. What the deepest head and its features say is constant for the exits. In `evaluate` and on
    validation data the loss is that of the deepest head. A step runs the model once.

    Args:
        student: a built model of one output `[batch, columns]`.
        exits: names of layers, as `kdfuse.graph.taps.Taps` takes them.
        head: what the output is: `logits`, `softmax`, `sigmoid` or `sigmoid_logits`.
        example: a batch of inputs.
        metrics: a metric for each exit, under the name `accuracy`.
        weighted: whether sample weights count in them.
        temperature: T, above 0.
        alpha: from 0 to 1.
        feature_weight: from 0.
        seed: of the exits' weights.
    """

    def __init__(
        self,
        student: keras.Model,
        exits: Sequence[str],
        *,
        head: str,
        example: Any,
        metrics: Sequence[keras.metrics.Metric] = (),
        weighted: bool = False,
        temperature: float = 3.0,
        alpha: float = 0.1,
        feature_weight: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(name="exits", dtype=student.dtype_policy, autocast=False)
        self.student, self.head, self.names = student, head, tuple(exits)
        self.temperature, self.alpha, self.feature_weight = temperature, alpha, feature_weight
        *found, deepest = shapes(student, [*exits, None], example)
        columns = student(keras.tree.map_structure(keras.ops.convert_to_tensor, example), training=False).shape[-1]
        activation = head if head in ("softmax", "sigmoid") else None
        self.exits = [Exit(deepest[-1], columns, activation, seed + 2 * place, f"exit_{place}") for place in range(len(exits))]
        for layer, shape in zip(self.exits, found, strict=True):
            layer.build(shape)
            layer.built = True
        self.trackers = [keras.metrics.Mean(name=name) for name in TERMS]
        self.exit_metrics, self.weighted = list(metrics), weighted
        self._taps, self._pass, self._phase = _Box(Taps(student, [*exits, None], example)), _Box(threading.local()), _Box(True)
        self.supports_jit = student.supports_jit
        self.built = student.built

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if in_stateless_scope():  # Keras looks for shapes, in a graph that is thrown away
            return self.student(inputs, training=training)
        with self._taps.held as taps:
            taps.start()
            outputs = self.student(inputs, training=training)
            *features, self._pass.held.deepest = taps.values()
        self._pass.held.said = [layer(one) for layer, one in zip(self.exits, features, strict=True)]
        return outputs

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Tensor:
        self._phase.held = training
        own = [self._aggregate_additional_loss(loss) for loss in self.losses]
        label = self._compile_loss(y, y_pred, sample_weight)
        if not training:
            return sum(own, label)
        deepest = keras.ops.stop_gradient(pooled(self._pass.held.__dict__.pop("deepest")))
        taught = keras.ops.stop_gradient(logits_of(y_pred, self.head))
        labels, peers, gaps = [], [], []
        for features, outputs in self._pass.held.said:
            labels.append(self._compile_loss(y, outputs, sample_weight))
            each = divergence(taught, logits_of(outputs, self.head), self.temperature)
            peers.append(mean_over_batch("soft_targets", each, sample_weight))
            gaps.append(mean_over_batch("features", keras.ops.sum(keras.ops.square(features - deepest), axis=-1), sample_weight))
        terms = [label + sum(labels), sum(peers), sum(gaps)]
        # Keras divides losses by the replicas, whose gradients are summed; logs show the whole.
        replicas = float(tf.distribute.get_strategy().num_replicas_in_sync)
        for tracker, term in zip(self.trackers, terms, strict=True):
            tracker.update_state(term * replicas, sample_weight=keras.ops.shape(y_pred)[0])
        shares = (1.0 - self.alpha) * sum(labels) + self.alpha * terms[1] + self.feature_weight * terms[2]
        return sum(own, label + shares)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        for name in () if self._phase.held else TERMS:
            results.pop(name, None)
        said = self._pass.held.__dict__.pop("said", ())
        for name, metric, (_, outputs) in zip(self.names, self.exit_metrics, said, strict=False):
            metric.update_state(y, outputs, sample_weight if self.weighted else None)
            results.pop(metric.name, None)
            results[f"{name}/accuracy"] = metric.result()
        return results


class _Box:
    """Keeps from Keras what is none of its state."""

    def __init__(self, held: Any) -> None:
        self.held = held
