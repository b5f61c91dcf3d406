"""Distill: a student learns from the labels and from one or more teachers."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.distill import checks
from kdfuse.distill.cache import Cache, Targets, targets
from kdfuse.distill.distiller import Distiller
from kdfuse.distill.lessons import TaughtSplit
from kdfuse.distill.losses.base import Loss
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.distill.outputs import like, logits_of
from kdfuse.distill.schedules import EpochClock, Schedule
from kdfuse.distill.structure import aligned, flat
from kdfuse.distill.teachers import Prepared, Teacher
from kdfuse.distill.terms import layers_of, needs_rows
from kdfuse.distill.unlabelled import check_unlabelled, decided
from kdfuse.fitting.augment import views
from kdfuse.graph.copy import copy_model
from kdfuse.graph.heads import detect_head
from kdfuse.settings import settings
from kdfuse.splits import ArraySplit
from kdfuse.technique import Result, Technique
from kdfuse.train import Fitted, Train

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Losses = tuple[keras.distillation.DistillationLoss, ...]


@settings
class Distill(Technique):
    """Train a student on labels and on what a teacher says, and give back the student alone.

    The loss is `label_weight * label loss + sum_i loss_weights[i] * losses[i]`, and the student's regularisers. Usual on CIFAR
    is `label_weight=0.1, loss_weights=(0.9,)` with `SoftTargets(4)`; each loss names the weights of its paper. With several
    teachers a loss is the weighted sum of what it is against each of them: for soft targets that has the gradient of soft
    targets from the mean of their softened probabilities.

    Attributes:
        teacher: a trained model that takes the student's inputs, or several. They stay as they are.
        losses: one or more distillation losses, kdfuse's or any `keras.distillation.DistillationLoss` on outputs.
        training: how to fit: epochs, optimizer, label loss and all else.
        label_weight: of the label loss, from 0.
        loss_weights: one for each loss, from 0. None shares `1 - label_weight` among them in equal parts.
        teacher_weights: of several teachers: `mean`; numbers, brought to the sum 1; `entropy`, more to those that are surer of
            a sample (Kwon 2020); `confidence`, more to those that are right about it (CA-MKD, arXiv 2201.00007).
        schedules: weights and temperatures that change while the student is trained: `Schedule("loss_weights__0", Constant(warmup=20))`.
        cache: whether the teacher's outputs on the training split are computed once, by a fingerprint of teacher and inputs.
            `auto`: for arrays yes, in memory up to 1 GiB and on disk above; for streams and augmented inputs no, the teacher
            runs in every step. True: as `auto`, and an error for streams. `memory`, `disk`: there. `Cache(...)`: in float16,
            of the most likely classes only, of augmented views. False: the teacher runs in every step.
        teacher_head: what the teacher's outputs are, `auto` to detect it; that of the student is in `training`.
        teacher_preprocessing: a Keras layer or model between the data's inputs and the teacher (`keras.layers.Resizing(64, 64)`),
            one for all teachers or a tuple of one for each; None for none.
        control: also trains the same student under the same `training` without the teacher, and reports the difference.
    """

    teacher: keras.Model | tuple[keras.Model, ...]
    losses: Losses = (SoftTargets(),)
    training: Train = Train()
    label_weight: float = 0.5
    loss_weights: tuple[float, ...] | None = None
    teacher_weights: str | tuple[float, ...] = "mean"
    schedules: tuple[Schedule, ...] = ()
    cache: bool | str | Cache = "auto"
    teacher_head: Any = "auto"
    teacher_preprocessing: Any = None
    control: bool = False

    row = "student"
    keeps_structure = True

    def __post_init__(self) -> None:
        checks.check_teachers(self._given(), self.teacher_weights, self.teacher_preprocessing)
        checks.check_losses(self.losses, self.teacher_weights)
        if not isinstance(self.training, Train):
            raise TypeError(f"`training`: expected kdfuse.Train(...). Received: {self.training!r}.")
        checks.check_loss_weights(self.loss_weights, self.label_weight, len(self.losses))
        checks.check_schedules(self.schedules, self.losses, self.label_weight, self._weights())
        checks.check_cache(self.cache, self.training.augment is not None)
        if self.training.strategy is not None and needs_rows(self.losses):
            raise ValueError(
                f"`losses`: CRD keeps a memory of rows on one device. Received: strategy={self.training.strategy!r}. Give None."
            )
        if not isinstance(self.control, bool):
            raise ValueError(f"`control`: expected True or False. Received: control={self.control!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        if not data.labelled:
            check_unlabelled(self)
            data = data.with_splits(train=data.train)  # their labels stand for none, which is known now
        self.training.check(model, data)
        if self.cache not in ("auto", False) and not isinstance(data.train, ArraySplit):
            raise ValueError(
                f"`cache`: the training split is a stream, whose rows may change from pass to pass. Received: cache={self.cache!r}. "
                "Give arrays, or cache='auto' for a teacher that runs in every step."
            )
        if needs_rows(self.losses) and not isinstance(data.train, ArraySplit):
            names = ", ".join(type(loss).__name__ for loss in self.losses if getattr(loss, "needs_rows", False))
            raise ValueError(f"`losses`: {names} keeps a memory of every row, and the training split is a stream. Give arrays.")
        example = data.example(2)
        student = copy_model(model, example)
        head, teachers = self._heads(student, data), self._teachers(data)
        checks.check_values(self.losses, head, self.teacher_weights, self.cache)
        made = checks.run("model", student, example, data)
        for teacher in teachers:
            given = checks.run("teacher", teacher.model, example, data)
            if checks.on_outputs(self.losses):
                self._check_outputs(teacher, given, student, made, head)
        Distiller(student, self.losses, teacher=teachers, loss_weights=self._weights(), student_head=head, example=example,
                  teacher_weights=self.teacher_weights, rows=data.train.rows)  # fmt: skip

    def apply(self, model: keras.Model, data: Data) -> Result:
        student = self.training.private(model, data)
        fitted = self.fit(student, data)
        result = Result(self.public(student, data), fitted.history, notes=fitted.notes)
        result.heads = {"model": self.training.head, "control": self.training.head}
        teachers = self._teachers(data)
        for place, teacher in enumerate(teachers):
            if self._comparable(teacher, model, data):
                name = "teacher" if len(teachers) == 1 else f"teacher {LETTERS[place] if place < len(LETTERS) else place}"
                result.baselines[name], result.heads[name] = teacher.model, self.teacher_head
            else:
                result.notes.append(f"The teacher {teacher.model.name!r} has other outputs than the student and is not measured.")
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
        head, teachers, training = self._heads(model, data), self._teachers(data), self.training
        unlabelled = [] if data.labelled else ["The training rows have no labels: curves of the training split are against the teacher."]
        data = data if data.labelled else decided(data, teachers[0])
        settled: dict[str, Any] = {"student_head": head, "teacher_weights": self.teacher_weights, "example": data.example(2),
                                   "rows": data.train.rows, "teacher": teachers}  # fmt: skip
        cache, note = self._cache(data), "The teacher ran in every step."
        if cache is not None or needs_rows(self.losses):
            split: Any = data.train
            seen = views(split, training.augment, training.seed, cache.views) if cache is not None and cache.views else None
            found = None if cache is None else [targets(teacher, seen or split, cache=cache) for teacher in teachers]
            if found is not None:
                settled.update(teacher=None, lessons=[one.lesson for one in found])
                training, note = dataclasses.replace(training, augment=None), _source(found)
            lessons = None if found is None else tuple(one.lesson for one in found)
            data = data.with_splits(train=TaughtSplit(split, lessons, views=seen, numbered=needs_rows(self.losses)))
        if self.schedules:
            settled.update(schedules=self.schedules, epochs=training.epochs, steps=data.train.steps(training.batch_size))
            callbacks = [*callbacks, EpochClock()]

        def engine(student: keras.Model) -> Distiller:
            return Distiller(student, self.losses, label_weight=self.label_weight, loss_weights=self._weights(), **settled)

        fitted = training.fit(model, data, callbacks, engine=engine)
        heads = ", ".join(_text(teacher.head) for teacher in teachers)
        notes = [note, f"Heads: student {_text(head)}, teacher {heads}."]
        foreign = [type(loss).__name__ for loss in self.losses if not isinstance(loss, Loss)]
        if foreign and data.train.weights() is not None:
            notes.append(f"{', '.join(foreign)}: not kdfuse's, so sample weights count in the label loss only.")
        return Fitted(fitted.history, [*notes, *unlabelled, *fitted.notes])

    def public(self, model: keras.Model, data: Data) -> keras.Model:
        """The trained copy as a plain model to give away."""
        return self.training.public(model, data)

    def _given(self) -> tuple[Any, ...]:
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)

    def _weights(self) -> tuple[float, ...]:
        if self.loss_weights is not None:
            return self.loss_weights
        return ((1.0 - self.label_weight) / len(self.losses),) * len(self.losses)

    def _cache(self, data: Data) -> Cache | None:
        if self.cache == "auto":
            return Cache() if isinstance(data.train, ArraySplit) and self.training.augment is None else None
        if isinstance(self.cache, Cache):
            return self.cache
        return None if self.cache is False else Cache("auto" if self.cache is True else str(self.cache))

    def _heads(self, student: keras.Model, data: Data) -> Any:
        return detect_head(student, data.task, data.example(8), self.training.head)

    def _teachers(self, data: Data) -> tuple[Teacher, ...]:
        example, layers = data.example(8), layers_of(self.losses)[0]
        given = self._given()
        shared = self.teacher_preprocessing
        preparations = shared if isinstance(shared, tuple) else (shared,) * len(given)
        models = [model if layer is None else Prepared(layer, model) for model, layer in zip(given, preparations, strict=True)]
        for model in models:
            checks.run("teacher", model, example, data)
        return tuple(Teacher(model, checks.teacher_head(model, data, example, self.teacher_head), layers, example) for model in models)

    def _check_outputs(self, teacher: Teacher, given: Any, student: keras.Model, made: Any, head: Any) -> None:
        if len(flat(given)) != len(flat(made)):
            raise ValueError(
                f"`teacher`: {teacher.model.name!r} has {len(flat(given))} outputs, the student {student.name!r} has {len(flat(made))}. "
                "Both need the same outputs."
            )
        taught, learnt = logits_of(given, teacher.head), logits_of(made, head)
        taught = like(learnt, aligned("`teacher`: its outputs", taught, learnt))
        for loss in checks.on_outputs(self.losses):
            if isinstance(loss, Loss):
                loss.check_head(head)
                loss.check_head(like(head, aligned("`teacher`: its heads", teacher.head, head)))
            loss.validate_outputs(taught, learnt)

    def _comparable(self, teacher: Teacher, student: keras.Model, data: Data) -> bool:
        """Whether the teacher's outputs can be measured on the data: a teacher of features alone may have others."""
        if checks.on_outputs(self.losses):
            return True
        example = data.example(2)
        shapes = [[tuple(leaf.shape) for leaf in flat(model(example, training=False))] for model in (teacher.model, student)]
        return shapes[0] == shapes[1]


def _source(found: Sequence[Targets]) -> str:
    whose = "The teacher's outputs were" if len(found) == 1 else "The teachers' outputs were"
    sources = {one.source for one in found}
    return f"{whose} computed once." if "computed" in sources else f"{whose} taken from {' and '.join(sorted(sources))}."


def _text(heads: Any) -> str:
    return heads if isinstance(heads, str) else json.dumps(heads)
