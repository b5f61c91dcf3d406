"""The model that is fitted while a student learns from a teacher."""

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kdfuse.distill.lessons import Lesson, parts_of
from kdfuse.distill.losses.base import Loss, scalar
from kdfuse.distill.outputs import logits_of, masks_of
from kdfuse.distill.schedules import Clock, Schedule
from kdfuse.distill.teachers import Teacher
from kdfuse.distill.terms import Terms
from kdfuse.graph.taps import Taps

Tensor = Any


class _Hidden:
    """What Keras must not track: the teachers are no part of the model that is trained, saved and counted."""

    def __init__(self, teachers: tuple[Teacher, ...], terms: Terms, taps: Taps | None) -> None:
        self.teachers, self.terms, self.taps, self.training = teachers, terms, taps, False
        self.clock: Clock | None = None
        self.pass_ = threading.local()
        """The student's features in the present pass, of each replica."""


class Distiller(keras.Model):
    """A student with the loss it is distilled by; `fit` trains the student in place.

    The loss of a training step is `label_weight * label loss + sum_i loss_weights[i] * losses[i] + student.losses`. The label
    loss is the compiled one. A step runs the student once, and each teacher at most once, however many layers are read; all
    else (`train_step`, XLA, loss scaling, `tf.distribute`, gradient accumulation) is Keras's own. In `evaluate` and on
    validation data the loss is the label loss and the student's own losses, as without a teacher.

    Training data is `(x, y)` or `(x, y, sample_weight)`; where lessons come with the data, x is as `TaughtSplit` gives it.

    Args:
        student: a built model. It is trained in place.
        losses: distillation losses. kdfuse's own are copied; others (`keras.distillation.LogitsDistillation`) are called on
            logits, without sample weights.
        teacher: a built model that takes the student's inputs, run with `training=False` and left as it is; several of them,
            or `Teacher`s; None where the lessons come with the data.
        label_weight: of the compiled loss.
        loss_weights: one for each loss.
        student_head: what the student's outputs are, see `kdfuse.distill.outputs.logits_of`.
        teacher_head: what the teacher's outputs are, where it is given as a model.
        teacher_weights: what each of several teachers counts for, see `Terms`.
        lessons: an example of each teacher's lesson, where they come with the data.
        example: a batch of inputs; needed where losses read layers.
        rows: of the training split, None for a stream.
        schedules: settings that change while the student is trained.
        epochs: in the run.
        steps: in an epoch; None where it is not known.

    Attributes:
        knobs: the variables that a schedule may change: `label_weight`, `loss_weights__0`, `losses__0__temperature` ...
        parts: layers that are trained with the student and belong to the losses.
    """

    def __init__(
        self,
        student: keras.Model,
        losses: Sequence[keras.distillation.DistillationLoss],
        *,
        teacher: Any = None,
        label_weight: float = 0.5,
        loss_weights: Sequence[float] = (0.5,),
        student_head: Any = "logits",
        teacher_head: Any = "logits",
        teacher_weights: Any = "mean",
        lessons: Sequence[Lesson] = (),
        example: Any = None,
        rows: int | None = None,
        schedules: tuple[Schedule, ...] = (),
        epochs: int = 1,
        steps: int | None = None,
    ) -> None:
        # Keras wraps the optimizer for float16 by the dtype of the model that is compiled. Inputs go to the student as they are.
        super().__init__(name="distiller", dtype=student.dtype_policy, autocast=False)
        if len(loss_weights) != len(losses):
            raise ValueError(f"`loss_weights`: expected one for each loss, {len(losses)}. Received: {tuple(loss_weights)}.")
        self.student, self.student_head = student, student_head
        given = () if teacher is None else tuple(teacher) if isinstance(teacher, list | tuple) else (teacher,)
        terms = Terms(losses, max(len(given), len(lessons), 1), teacher_weights)
        for loss in terms.losses:
            if isinstance(loss, Loss):
                loss.check_head(student_head)
        teachers = tuple(one if isinstance(one, Teacher) else Teacher(one, teacher_head, terms.teacher_layers, example) for one in given)
        taps = Taps(student, terms.student_layers, example) if terms.student_layers else None
        self._hidden = _Hidden(teachers, terms, taps)
        if taps is not None:
            lessons = lessons or [one(keras.tree.map_structure(keras.ops.convert_to_tensor, example)) for one in teachers]
            shapes = [[tuple(features.shape) for features in lesson["features"]] for lesson in lessons]
            terms.build(shapes, _shapes(student, taps, example), rows)
        self.parts = terms.parts
        self.label_weight = scalar(label_weight, "label_weight")
        self.loss_weights = [scalar(weight, f"loss_weight_{place}") for place, weight in enumerate(loss_weights)]
        self.loss_settings = [variable for loss in terms.losses if isinstance(loss, Loss) for variable in loss.variables()]
        if schedules:
            self._hidden.clock = Clock(schedules, self.knobs, epochs, steps)
        self.term_trackers = [keras.metrics.Mean(name=name) for name in term_names(terms.losses)]
        models = [student, *(one.model for one in teachers)]
        self.supports_jit = all(layer.supports_jit for model in models for layer in model._flatten_layers())
        if hasattr(student, "output_names"):
            self.output_names = list(student.output_names)
        self.built = student.built

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teachers; empty where their lessons come with the data."""
        return self._hidden.teachers

    @property
    def clock(self) -> Clock | None:
        """What moves the scheduled settings, None where there are none."""
        return self._hidden.clock

    @property
    def knobs(self) -> dict[str, keras.Variable]:
        found = {"label_weight": self.label_weight}
        for place, (weight, loss) in enumerate(zip(self.loss_weights, self._hidden.terms.losses, strict=True)):
            found[f"loss_weights__{place}"] = weight
            if isinstance(loss, Loss):
                found.update({f"losses__{place}__{name}": getattr(loss, name) for name in loss.scheduled})
        return found

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        inputs, taps = parts_of(inputs)[0], self._hidden.taps
        if taps is None or not training:
            return self.student(inputs, training=training)
        with taps:
            taps.start()
            outputs = self.student(inputs, training=training)
            self._hidden.pass_.features = taps.values()
        return outputs

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Tensor:
        self._hidden.training = training
        if y is None or self._compile_loss is None:
            raise ValueError("Distilling needs labels and a compiled `loss`. For soft targets alone give labels and `label_weight=0`.")
        label = self._compile_loss(y, y_pred, sample_weight)
        label = keras.ops.zeros(()) if label is None else label
        own = [self._aggregate_additional_loss(loss) for loss in self.losses]  # Keras divides them by the replicas too
        if not training:
            return sum(own, label)
        if self._hidden.clock is not None:
            self._hidden.clock.step()
        terms = self._terms(x, y, y_pred, sample_weight)
        for tracker, term in zip(self.term_trackers, [label, *terms], strict=True):
            tracker.update_state(term * _replicas(), sample_weight=keras.ops.shape(keras.tree.flatten(y_pred)[0])[0])
        weighted = [weight * term for weight, term in zip(self.loss_weights, terms, strict=True)]
        return sum([*weighted, *own], self.label_weight * label)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        if not self._hidden.training:
            for tracker in self.term_trackers:
                results.pop(tracker.name, None)
        return results

    def _terms(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> list[Tensor]:
        inputs, lessons, rows = parts_of(x)
        if lessons is None:
            if not self.teachers:
                raise ValueError("`x`: without a `teacher`, expected the batches of a TaughtSplit, with the teacher's lessons.")
            lessons = tuple(teacher(inputs) for teacher in self.teachers)
        if not isinstance(y_pred, Mapping):
            sample_weight, y = self._in_order(sample_weight), self._in_order(y)
        features = self._hidden.pass_.__dict__.pop("features", ())
        outputs, masks = logits_of(y_pred, self.student_head), masks_of(y_pred)
        return self._hidden.terms.values(
            lessons, outputs, features, labels=y, sample_weight=sample_weight, masks=masks, rows=rows
        )  # fmt: skip

    def _in_order(self, value: Any) -> Any:
        """What was given by the outputs' names, in their order."""
        return [value.get(name) for name in self.output_names] if isinstance(value, Mapping) else value


def _shapes(student: keras.Model, taps: Taps, example: Any) -> list[tuple[int | None, ...]]:
    with taps:
        taps.start()
        student(keras.tree.map_structure(keras.ops.convert_to_tensor, example), training=False)
        return [tuple(features.shape) for features in taps.values()]


def term_names(losses: Sequence[keras.distillation.DistillationLoss]) -> list[str]:
    """`label_loss` and a name for each loss, as they stand in the logs: equal ones are counted."""
    names = ["label_loss"]
    for loss in losses:
        plain = loss.name if isinstance(loss, Loss) else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(loss).__name__).lower()
        name, count = f"{plain.removesuffix('_loss')}_loss", 1
        while name in names:
            name, count = f"{plain.removesuffix('_loss')}_{count}_loss", count + 1
        names.append(name)
    return names


def _replicas() -> float:
    """Keras divides losses by the replicas, whose gradients are summed; logs show the whole."""
    return float(tf.distribute.get_strategy().num_replicas_in_sync)
