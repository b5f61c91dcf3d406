"""Distill: a student learns from the labels and from a teacher."""

import json
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.distill.distiller import Distiller
from kdfuse.distill.losses.base import Loss
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.distill.outputs import like, logits_of
from kdfuse.distill.structure import aligned, flat
from kdfuse.distill.teachers import TaughtSplit, targets
from kdfuse.graph.copy import copy_model
from kdfuse.graph.heads import detect_head
from kdfuse.settings import choose, settings
from kdfuse.splits import ArraySplit
from kdfuse.technique import Result, Technique
from kdfuse.train import Fitted, Train

Losses = tuple[keras.distillation.DistillationLoss, ...]


@settings
class Distill(Technique):
    """Train a student on labels and on what a teacher says, and give back the student alone.

    The loss is `label_weight * label loss + sum_i loss_weights[i] * losses[i]`, and the student's regularisers. Usual on CIFAR
    is `label_weight=0.1, loss_weights=(0.9,)` with `SoftTargets(4)`; each loss names the weights of its paper.

    Attributes:
        teacher: a trained model that takes the student's inputs. It stays as it is.
        losses: one or more distillation losses, kdfuse's or any `keras.distillation.DistillationLoss` on outputs.
        training: how to fit: epochs, optimizer, label loss and all else.
        label_weight: of the label loss, from 0.
        loss_weights: one for each loss, from 0. None shares `1 - label_weight` among them in equal parts.
        cache: whether the teacher's outputs on the training split are computed once, by a fingerprint of teacher and inputs.
            `auto`: for arrays yes, in memory up to 1 GiB and on disk above; for streams no, the teacher runs in every step.
            True: as `auto`, and an error for streams. `memory`, `disk`: there. False: the teacher runs in every step.
        teacher_head: what the teacher's outputs are, `auto` to detect it; that of the student is in `training`.
        control: also trains the same student under the same `training` without the teacher, and reports the difference.
    """

    teacher: keras.Model
    losses: Losses = (SoftTargets(),)
    training: Train = Train()
    label_weight: float = 0.5
    loss_weights: tuple[float, ...] | None = None
    cache: bool | str = "auto"
    teacher_head: Any = "auto"
    control: bool = False

    row = "student"

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, keras.Model):
            raise TypeError(f"`teacher`: expected a trained keras.Model of Keras 3. Received: {type(self.teacher).__name__}.")
        if not self.teacher.built:
            raise ValueError(f"`teacher`: {self.teacher.name!r} has no weights yet. Train it, or load a trained one.")
        _check_losses(self.losses)
        if not isinstance(self.training, Train):
            raise TypeError(f"`training`: expected kdfuse.Train(...). Received: {self.training!r}.")
        _check_weight("label_weight", self.label_weight)
        if self.loss_weights is None and self.label_weight >= 1:
            raise ValueError(
                f"`loss_weights`: None shares 1 - label_weight among the losses. Received: label_weight={self.label_weight!r}, leaving "
                "nothing. Give the weights, or a label_weight below 1."
            )
        if self.loss_weights is not None:
            if not isinstance(self.loss_weights, tuple) or len(self.loss_weights) != len(self.losses):
                raise ValueError(f"`loss_weights`: expected {len(self.losses)}, one for each loss. Received: {self.loss_weights!r}.")
            for weight in self.loss_weights:
                _check_weight("loss_weights", weight)
            if not any(self.loss_weights):
                raise ValueError("`loss_weights`: all are 0, so the teacher has no say. Use kdfuse.Train, or give one a weight.")
        if not isinstance(self.cache, bool):
            choose("cache", self.cache, ("auto", "memory", "disk"))
        if not isinstance(self.control, bool):
            raise ValueError(f"`control`: expected True or False. Received: control={self.control!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        self.training.check(model, data)
        if self.cache not in ("auto", False) and not isinstance(data.train, ArraySplit):
            raise ValueError(
                f"`cache`: the training split is a stream, whose rows may change from pass to pass. Received: cache={self.cache!r}. "
                "Give arrays, or cache='auto' for a teacher that runs in every step."
            )
        example = data.example(2)
        student = copy_model(model, example)
        heads = self._heads(student, data)
        given = _run("teacher", self.teacher, example, data)
        made = _run("model", student, example, data)
        if len(flat(given)) != len(flat(made)):
            raise ValueError(
                f"`teacher`: {self.teacher.name!r} has {len(flat(given))} outputs, the student {model.name!r} has {len(flat(made))}. "
                "Both need the same outputs."
            )
        taught, learnt = logits_of(given, heads[1]), logits_of(made, heads[0])
        taught = like(learnt, aligned("`teacher`: its outputs", taught, learnt))
        for loss in self.losses:
            if isinstance(loss, Loss):
                loss.check_head(heads[0])
                loss.check_head(like(heads[0], aligned("`teacher`: its heads", heads[1], heads[0])))
            loss.validate_outputs(taught, learnt)

    def apply(self, model: keras.Model, data: Data) -> Result:
        student = self.training.private(model, data)
        fitted = self.fit(student, data)
        result = Result(self.public(student, data), fitted.history, notes=fitted.notes, baselines={"teacher": self.teacher})
        result.heads = {"model": self.training.head, "control": self.training.head, "teacher": self.teacher_head}
        if self.control:
            result.baselines["control"], _ = self.training(model, data, name="control")
        return result

    def private(self, model: keras.Model, data: Data) -> keras.Model:
        """A copy of `model` that `fit` may train, compiled as `model` is."""
        return self.training.private(model, data)

    def fit(self, model: keras.Model, data: Data, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Fitted:
        """Train `model` in place under the teacher.

        Args:
            model: a copy that belongs to the caller, from `private`.
            data: as in `Train.fit`.
            callbacks: Keras callbacks.

        Returns:
            The curves, each term of the loss among them, and notes.
        """
        student_head, teacher_head = self._heads(model, data)
        teacher: keras.Model | None = self.teacher
        note = "The teacher ran in every step."
        if self.cache is not False and isinstance(data.train, ArraySplit):
            disk = {"disk": True, "memory": False}.get(str(self.cache))
            outputs, source = targets(self.teacher, data.train, teacher_head, disk=disk)
            data, teacher = data.with_splits(train=TaughtSplit(data.train, outputs)), None
            note = (
                "The teacher's outputs were computed once." if source == "computed" else f"The teacher's outputs were taken from {source}."
            )

        def engine(student: keras.Model) -> Distiller:
            return Distiller(
                student, self.losses, teacher=teacher, label_weight=self.label_weight, loss_weights=self._weights(),
                student_head=student_head, teacher_head=teacher_head,
            )  # fmt: skip

        fitted = self.training.fit(model, data, callbacks, engine=engine)
        notes = [note, f"Heads: student {_text(student_head)}, teacher {_text(teacher_head)}."]
        foreign = [type(loss).__name__ for loss in self.losses if not isinstance(loss, Loss)]
        if foreign and data.train.weights() is not None:
            notes.append(f"{', '.join(foreign)}: not kdfuse's, so sample weights count in the label loss only.")
        return Fitted(fitted.history, [*notes, *fitted.notes])

    def public(self, model: keras.Model, data: Data) -> keras.Model:
        """The trained copy as a plain model to give away."""
        return self.training.public(model, data)

    def _weights(self) -> tuple[float, ...]:
        if self.loss_weights is not None:
            return self.loss_weights
        return ((1.0 - self.label_weight) / len(self.losses),) * len(self.losses)

    def _heads(self, student: keras.Model, data: Data) -> tuple[Any, Any]:
        example = data.example(8)
        return detect_head(student, data.task, example, self.training.head), _teacher_head(self.teacher, data, example, self.teacher_head)


def _teacher_head(teacher: keras.Model, data: Data, example: Any, declared: Any) -> Any:
    try:
        return detect_head(teacher, data.task, example, declared)
    except ValueError as error:
        raise ValueError(f"`teacher`: {teacher.name!r} does not fit. {error}") from error


def _run(argument: str, model: keras.Model, example: Any, data: Data) -> Any:
    try:
        return model(keras.tree.map_structure(keras.ops.convert_to_tensor, example), training=False)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ValueError(
            f"`{argument}`: {model.name!r} does not take the inputs of the data, of shape {data.input_shape}. "
            f"{type(error).__name__}: {lines[0] if lines else ''}"
        ) from error


def _check_losses(losses: Any) -> None:
    if not isinstance(losses, tuple) or not losses:
        raise TypeError(f"`losses`: expected a list of one or more losses, such as [kdfuse.SoftTargets(4.0)]. Received: {losses!r}.")
    for loss in losses:
        if not isinstance(loss, keras.distillation.DistillationLoss):
            raise TypeError(f"`losses`: expected distillation losses, such as kdfuse.SoftTargets(4.0). Received: {loss!r}.")
        if getattr(loss, "teacher_layer_name", None) or getattr(loss, "student_layer_name", None):
            raise ValueError(f"`losses`: {type(loss).__name__} reads layers inside the models; only losses on outputs are taken here.")


def _check_weight(argument: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"`{argument}`: expected numbers from 0. Received: {argument}={value!r}.")


def _text(heads: Any) -> str:
    return heads if isinstance(heads, str) else json.dumps(heads)
