"""The loss and metrics a model is trained and handed back with."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.graph.heads import detect_head

KEPT = ("loss", "loss_weights", "metrics", "weighted_metrics")


def compile_settings(model: keras.Model) -> dict[str, Any]:
    """What the user compiled `model` with: loss, loss weights, metrics. Empty where it is not compiled."""
    if not getattr(model, "compiled", False):
        return {}
    config = model._compile_config.config
    return {name: config[name] for name in (*KEPT, "optimizer") if config.get(name) is not None}


def carry_compile(source: keras.Model, target: keras.Model) -> bool:
    """Compile `target` as `source` is, with copies of its optimizer and metrics; nothing (False) where it is not compiled."""
    own = compile_settings(source)
    if not own or "loss" not in own:
        return False
    optimizer = own.pop("optimizer", "rmsprop")
    if not isinstance(optimizer, str):
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        optimizer = type(optimizer).from_config(optimizer.get_config())
    target.compile(optimizer=optimizer, jit_compile=False, **{name: fresh(value) for name, value in own.items()})
    return True


def fresh(value: Any) -> Any:
    """Metrics as new objects, so that two models never share a metric's state; losses have none and stay.

    (Some of Keras's losses, Huber for one, leave settings out of their config: a copy would be another loss.)
    """
    if isinstance(value, keras.metrics.Metric):
        return type(value).from_config(value.get_config())
    if isinstance(value, Mapping):
        return {name: fresh(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [fresh(item) for item in value]
    return value


def objective(model: keras.Model, data: Data, loss: Any, head: Any) -> dict[str, Any]:
    """What to compile `model` with: the loss, its weights and the metrics.

    Args:
        model: whose own they are where it came compiled.
        data: its task, and a few of its training rows.
        loss: takes the place of the model's, unless it is `"auto"`.
        head: declared head of the model, or `"auto"`.
    """
    own = {name: fresh(value) for name, value in compile_settings(model).items() if name in KEPT}
    x, y, weights = data.train.head(2)
    if isinstance(loss, str) and loss == "auto":
        if "loss" in own:
            return own
        head = detect_head(model, data.task, x, head)
        shapes = model.outputs if getattr(model, "outputs", None) else model(x, training=False)
        flat = keras.tree.flatten(shapes)
        shapes = flat[0] if isinstance(head, str) else keras.tree.pack_sequence_as(head, flat)
        metrics = {"metrics" if weights is None else "weighted_metrics": auto_metrics(head, data.task, y, shapes)}
        return {"loss": auto_loss(head, data.task, y, shapes), **metrics}
    own.setdefault("metrics", None)
    return {**own, "loss": fresh(loss)}


def auto_loss(head: Any, task: Any, targets: Any, outputs: Any) -> Any:
    """The loss that fits a model's head: a structure of losses for a structure of heads.

    Args:
        head: one of `kdfuse.graph.heads.HEADS`, or a list, tuple or dict of them.
        task: the data's task, of the same structure.
        targets: a few rows of targets, of the same structure; with `outputs` they tell integer labels from one-hot ones.
        outputs: the model's outputs for a few rows (only their shapes matter), of the same structure.
    """
    return _each(_loss, head, task, targets, outputs)


def auto_metrics(head: Any, task: Any, targets: Any, outputs: Any) -> Any:
    """The metrics watched while training: accuracy for classification, absolute error for regression."""
    return _each(_metrics, head, task, targets, outputs)


def _loss(head: str, task: str, one_hot: bool) -> keras.losses.Loss:
    if head == "regression":
        return keras.losses.MeanSquaredError()
    if head == "sigmoid" or task in ("binary", "multilabel"):
        return keras.losses.BinaryCrossentropy(from_logits=head != "sigmoid")
    kind = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
    return kind(from_logits=head == "logits")


def _metrics(head: str, task: str, one_hot: bool) -> list[keras.metrics.Metric]:
    if head == "regression":
        return [keras.metrics.MeanAbsoluteError(name="mae")]
    if head == "sigmoid" or task in ("binary", "multilabel"):
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.5 if head == "sigmoid" else 0.0)]
    kind = keras.metrics.CategoricalAccuracy if one_hot else keras.metrics.SparseCategoricalAccuracy
    return [kind(name="accuracy")]


def _each(make: Callable[[str, str, bool], Any], head: Any, task: Any, targets: Any, outputs: Any) -> Any:
    if isinstance(head, Mapping):
        return {name: _each(make, head[name], *(_part(value, name) for value in (task, targets, outputs))) for name in head}
    if isinstance(head, list | tuple):
        return [_each(make, item, *(_part(value, place) for value in (task, targets, outputs))) for place, item in enumerate(head)]
    one_hot = targets is not None and len(targets.shape) == len(outputs.shape) and targets.shape[-1] == outputs.shape[-1] > 1
    return make(head, task, one_hot)


def _part(value: Any, key: Any) -> Any:
    if isinstance(value, Mapping):
        return list(value.values())[key] if isinstance(key, int) else value[key]
    if isinstance(value, list | tuple):
        return value[key]
    return value
