"""Whether a model can be trained so on some data: every question that can be asked before training."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse import labels
from kdfuse.data import Data
from kdfuse.fitting.compiled import compile_settings
from kdfuse.fitting.decay import Plateau, make_decay, needs_steps
from kdfuse.fitting.execution import steps_together
from kdfuse.fitting.history import curve
from kdfuse.fitting.optimizers import base_rate
from kdfuse.graph.heads import detect_head
from kdfuse.settings import quoted

PROBED = 7
"""Rows on which a loss is tried."""


def check_fit(training: Any, model: keras.Model, data: Data) -> None:
    """Raise if the model cannot be trained so on the data, before any training."""
    if not data.labelled:
        raise ValueError(
            "`data`: the training rows have no labels. Give train=(x, y), or learn from a teacher: Distill(..., label_weight=0)."
        )
    decay = make_decay(training.decay)
    if needs_steps(decay) and data.train.steps(training.batch_size) is None:
        raise ValueError(
            f"`decay`: {type(decay).__name__} needs to know the steps of an epoch, and the training stream does not tell its length. "
            "Use dataset.apply(tf.data.experimental.assert_cardinality(n)), a PyDataset, arrays, or decay='constant'."
        )
    changes = isinstance(decay, Plateau) or needs_steps(decay)
    if changes and not isinstance(base_rate(training.optimizer, training.learning_rate), float):
        raise ValueError("`optimizer`: its learning rate is a schedule; `decay` would change it as well. Give it a number.")
    for watch in (decay if isinstance(decay, Plateau) else None, training.stopping):
        if watch is not None and not watch.monitor.startswith(("train/", "validation/")):
            near = dict.fromkeys([curve(watch.monitor), curve(f"val_{watch.monitor.removeprefix('val_')}")])
            raise ValueError(
                f"`monitor`: {type(watch).__name__} watches a curve of the training or validation split. Received: {watch.monitor!r}. "
                f"Give {' or '.join(map(repr, near))}."
            )
        if watch is not None and watch.monitor.startswith("validation/") and data.validation is None:
            raise ValueError(
                f"`monitor`: {type(watch).__name__} watches {watch.monitor!r}, and the data has no validation split. "
                "Give Data(validation=0.1), or watch 'train/loss'."
            )
    check_loss(training.loss)
    class_weights(training.class_weight, data)
    steps_together(training.steps_per_execution, data.train.steps(training.batch_size) if data.train.indexable else None, ())
    x, y, _ = data.train.head(2)
    detect_head(model, data.task, x, training.head)
    check_outputs(model, data, x)
    check_gradient(model, x)
    if model.weights and not model.trainable_weights:
        raise ValueError(f"`model`: no weight of {model.name!r} is trainable. Set `trainable = True` on it or on some of its layers.")
    check_targets(model, data, compile_settings(model).get("loss") if training.loss == "auto" else training.loss)
    if isinstance(training.loss, str) and training.loss == "auto" and "loss" not in compile_settings(model):
        check_columns(model, data, x, y)


def check_loss(loss: Any) -> None:
    """Raise if a name among the losses is none of Keras's."""
    for name in keras.tree.flatten(loss):
        if isinstance(name, str) and loss != "auto":
            try:
                keras.losses.get(name)
            except ValueError as error:
                raise ValueError(f"`loss`: expected 'auto', or losses of Keras or their names. Received: {name!r}.") from error


def check_targets(model: keras.Model, data: Data, loss: Any) -> None:
    """Raise if a loss of Keras that the user chose cannot compare the outputs with the labels: tried on a few rows of a single output.

    Args:
        model: what is trained.
        data: with the labels.
        loss: a loss, its name, or a function; losses of the user's own code and of several outputs are not tried.
    """
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    if not isinstance(data.task, str) or not callable(loss) or not loss.__module__.startswith("keras."):
        return
    x, y, _ = data.train.head(PROBED)
    output = model(x, training=False)
    if output.shape[-1] == len(y):  # rows and columns would pass for each other
        x, y, output = (keras.tree.map_structure(lambda value: value[:-1], part) for part in (x, y, output))
    try:
        loss(keras.ops.convert_to_tensor(y), output)
    except Exception as error:  # Keras raises many kinds here
        raise ValueError(
            f"`loss`: {getattr(loss, 'name', None) or loss.__name__!r} cannot compare outputs of shape "
            f"{tuple(output.shape[1:])} with labels of shape {tuple(y.shape[1:])} and type {y.dtype}. Give another loss, or 'auto' for the "
            f"one that fits. ({type(error).__name__}: {quoted(error)})"
        ) from error


def check_gradient(model: keras.Model, x: Any) -> None:
    """Raise if the model has layers that say they have no gradient (`has_gradient = False`), and none gets past them to a weight."""
    votes = [layer.name for layer in model._flatten_layers() if getattr(layer, "has_gradient", True) is False]
    if not votes or not model.trainable_variables:
        return
    with tf.GradientTape() as tape:
        total = sum(keras.ops.sum(output) for output in keras.tree.flatten(model(x, training=False)))
    if all(one is None for one in tape.gradient(total, model.trainable_variables)):
        raise ValueError(
            f"`model`: {model.name!r} decides by votes ({', '.join(votes)}), and no gradient gets past them, so that it cannot be trained. "
            "Train its members before they vote, or a student of it, with kdfuse.Distill(model)."
        )


def check_outputs(model: keras.Model, data: Data, x: Any) -> None:
    """Raise if the model's outputs are not as many, or not as wide, as the data has targets and classes."""
    outputs, tasks, widths = _outputs(model, x), keras.tree.flatten(data.task), keras.tree.flatten(data.classes)
    if len(outputs) != len(tasks):
        raise ValueError(f"`model`: expected {len(tasks)} outputs, one for each target of the data. Received: {len(outputs)} outputs.")
    for name, output, task, width in zip(_names(model, outputs), outputs, tasks, widths, strict=True):
        if task == "classification" and output.shape[-1] != width:
            binary = "give Data(task='binary') if the labels are no and yes"
            classes = "say with Data(class_names=...) how many classes there are"
            raise ValueError(
                f"`model`: expected {width} units in the output {name!r}, one for each class of the data. Received: {output.shape[-1]}. "
                f"Give the last layer {width} units, or {binary if width == 2 and output.shape[-1] == 1 else classes}."
            )


def check_columns(model: keras.Model, data: Data, x: Any, y: Any) -> None:
    """Raise if an output has other columns than its labels: no loss of ours compares the two.

    Args:
        model: with as many outputs as there are targets.
        data: with the tasks.
        x: a few rows of inputs.
        y: their targets.
    """
    outputs = _outputs(model, x)
    targets, tasks = keras.tree.flatten(y), keras.tree.flatten(data.task)
    for name, output, target, task in zip(_names(model, outputs), outputs, targets, tasks, strict=True):
        received = output.shape[-1]
        if task == "binary" and len(output.shape) > 1 and received != 1:
            two = "Give Data(task='classification') if these are two classes, or" if received == 2 else "Give"
            raise ValueError(
                f"`model`: expected 1 unit in the output {name!r}, for labels of no and yes in one column (task 'binary'). Received: "
                f"{received}. {two} the last layer 1 unit."
            )
        if task in ("multilabel", "regression") and len(output.shape) == len(target.shape) == 2 and received != target.shape[-1]:
            raise ValueError(
                f"`model`: expected {target.shape[-1]} units in the output {name!r}, one for each column of the labels (task {task!r}). "
                f"Received: {received}."
            )


def _outputs(model: keras.Model, x: Any) -> list[Any]:
    return list(keras.tree.flatten(model.outputs if getattr(model, "outputs", None) else model(x, training=False)))


def _names(model: keras.Model, outputs: list[Any]) -> list[str]:
    return list(getattr(model, "output_names", None) or [f"output {place}" for place in range(len(outputs))])


def class_weights(weights: dict[int, float] | str | None, data: Data) -> dict[int, float] | None:
    """A weight for each class from the setting of that name.

    Args:
        weights: class to weight (1 where a class is left out), `balanced` for rows / (classes * rows of the class), or None.
        data: with one output of classes.

    Raises:
        ValueError: other data, a class that does not exist, or a negative weight.
    """
    if weights is None:
        return None
    if not isinstance(data.classes, int) or data.task not in ("classification", "binary"):
        raise ValueError(f"`class_weight`: expected data with one output of classes. Received: task={data.task!r}.")
    classes = 2 if data.task == "binary" else data.classes
    if isinstance(weights, Mapping):
        wrong = [label for label in weights if label not in range(classes)]
        if wrong or any(not value >= 0 for value in weights.values()):
            raise ValueError(f"`class_weight`: expected classes 0 to {classes - 1} with weights of at least 0. Received: {dict(weights)}.")
        return {label: float(weights.get(label, 1.0)) for label in range(classes)}
    targets = np.asarray(data.train.targets())
    found = np.rint(targets).astype(np.int64) if labels.is_sparse(targets) else targets.argmax(-1)
    counts = np.bincount(found.ravel(), minlength=classes)
    return {label: float(found.size / (classes * count)) for label, count in enumerate(counts) if count}
