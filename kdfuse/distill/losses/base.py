"""What every distillation loss has in common."""

import inspect
import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import keras

from kdfuse.distill.structure import aligned, flat, names, place

Tensor = Any
CLASSIFICATION = ("logits", "softmax", "sigmoid")


@keras.saving.register_keras_serializable("kdfuse")
class Loss(keras.distillation.DistillationLoss):
    """A loss between a teacher's outputs and a student's.

    A loss on logits writes `per_sample`; the rest is here: several outputs, sample weights, masks, dtypes. Its mean
    over the batch is the one of `keras.losses.Loss`, so weights, Keras masks and `tf.distribute` count as they do in
    every Keras loss. It computes in float32 whatever comes in. Each argument of its constructor is kept under its name,
    as the loss's config.

    Inside kdfuse's `Distiller` a loss sees logits, whatever the head of the model: of a softmax head the values before
    it, of a sigmoid column `z` the two classes' logits `(0, z)`. Inside `keras.distillation.Distiller` it sees the
    models' outputs and takes them for logits.

    Args:
        output: which output the loss is on: a name, or a place in the order of the outputs. None: the sum over all.

    Example:
        @keras.saving.register_keras_serializable("mine")
        class AbsoluteError(kf.Loss):
            def per_sample(self, teacher_logits, student_logits):
                return keras.ops.mean(keras.ops.abs(teacher_logits - student_logits), axis=-1)
    """

    needs: ClassVar[tuple[str, ...]] = CLASSIFICATION
    """The heads the loss is defined for."""
    min_classes: ClassVar[int] = 2
    scheduled: ClassVar[tuple[str, ...]] = ()
    """Settings that live in variables while training, so that a schedule can change them."""
    needs_labels: ClassVar[bool] = False
    """Whether `per_sample` also takes the labels."""
    parts: Sequence[keras.Layer] = ()
    """Layers that are trained with the student and go with the loss: projectors, memories."""

    def __init__(self, output: str | int | None = None) -> None:
        if output is not None and (isinstance(output, bool) or not isinstance(output, str | int)):
            raise ValueError(f"`output`: expected a name, a place or None. Received: output={output!r}.")
        self.output = output

    @property
    def name(self) -> str:
        """The loss's name in logs: its class in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(self).__name__).lower()

    def per_sample(self, teacher_logits: Tensor, student_logits: Tensor, *labels: Tensor) -> Tensor:
        """The loss of each sample, or of each position of each sample.

        Args:
            teacher_logits: float32 logits `[batch, ..., classes]`.
            student_logits: the same shape.
            *labels: int32 class numbers `[batch, ...]`, where the loss says `needs_labels`; nothing otherwise.

        Returns:
            `[batch, ...]`.
        """
        raise RuntimeError(f"{type(self).__name__} is on logits and writes no `per_sample`. Write it, or override `compute_loss`.")

    def term(self, teacher_logits: Tensor, student_logits: Tensor, sample_weight: Any, mask: Any, *labels: Tensor) -> Tensor:
        """The loss of one output of a batch, a scalar. What a loss that is no mean over samples overrides.

        Args:
            teacher_logits: float32 logits `[batch, ..., classes]`.
            student_logits: the same shape.
            sample_weight: None, `[batch]` or `[batch, ...]`.
            mask: None, or bool `[batch, ...]`.
            *labels: as in `per_sample`.
        """
        return mean_over_batch(self.name, self.per_sample(teacher_logits, student_logits, *labels), sample_weight, mask)

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        sample_weight: Any = None,
        mask: Any = None,
        labels: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            teacher_outputs: logits `[batch, ..., classes]`, or a list, tuple or dict of them.
            student_outputs: logits of the same structure and shapes.
            sample_weight: `[batch]` or `[batch, ...]`, or a structure of them like the outputs.
            mask: bool `[batch, ...]`, or a structure of them. By default the Keras masks of `student_outputs`.
            labels: for losses with `needs_labels`: class numbers `[batch, ...]` (also with a last axis of 1) or one-hot rows
                `[batch, ..., classes]`, or a structure of them.
            **kwargs: ignored, for callers that know more.

        Returns:
            A scalar: the weighted mean over the batch, summed over the outputs.
        """
        del kwargs
        total: Tensor = 0.0
        weights = aligned("sample_weight", sample_weight, student_outputs, repeat=True)
        masks = aligned("mask", mask, student_outputs, repeat=True)
        truth = aligned("labels", labels, student_outputs, repeat=True)
        for spot, teacher, student in self._pairs(teacher_outputs, student_outputs):
            own_mask = getattr(student, "_keras_mask", None) if masks[spot] is None else masks[spot]
            wanted = (class_numbers(type(self).__name__, truth[spot], student),) if self.needs_labels else ()
            teacher, student = keras.ops.cast(teacher, "float32"), keras.ops.cast(student, "float32")
            total = total + self.term(teacher, student, weights[spot], own_mask, *wanted)
        return total

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that the outputs fit each other and this loss.

        Raises:
            ValueError: they do not.
        """
        self._pairs(teacher_outputs, student_outputs)

    def check_head(self, heads: Any) -> None:
        """Check that this loss is defined for the heads of the outputs it is on.

        Args:
            heads: one of `kdfuse.graph.heads.HEADS`, or a structure of them like the outputs.

        Raises:
            ValueError: it is not.
        """
        for spot in self._places(heads):
            head = flat(heads)[spot].removesuffix("_logits")
            if head not in self.needs:
                raise ValueError(
                    f"{type(self).__name__} needs a head of {' or '.join(self.needs)}. Received: head={head!r}. "
                    "Use a loss for that head (`LogitsMSE` takes regression too), or choose another output with `output=`."
                )

    def attached(self, sharing: "Loss | None" = None) -> Self:
        """A private copy whose `scheduled` settings are non-trainable float32 variables.

        Args:
            sharing: an attached copy of the same loss whose variables this one takes, as for a second teacher.
        """
        copy = type(self).from_config(self.get_config())
        for name in self.scheduled:
            own = scalar(float_of(getattr(copy, name)), f"{copy.name}_{name}")
            setattr(copy, name, own if sharing is None else getattr(sharing, name))
        return copy

    def variables(self) -> list[keras.Variable]:
        """The variables of an attached copy."""
        return [value for value in (getattr(self, name) for name in self.scheduled) if isinstance(value, keras.Variable)]

    def get_config(self) -> dict[str, Any]:
        """The settings as plain values: the arguments of the constructor, under their names."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise ValueError(f"{type(self).__name__} keeps no attribute {missing[0]!r}. Set `self.{missing[0]}` in `__init__`.")
        return {name: float_of(value) if isinstance(value := getattr(self, name), keras.Variable) else value for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The loss with these settings."""
        return cls(**config)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items() if value is not None)
        return f"{type(self).__name__}({shown})"

    def _places(self, outputs: Any) -> list[int]:
        """The places, among the flat outputs, of those the loss is on."""
        named = list(names(outputs))
        return list(range(len(named))) if self.output is None else [place(type(self).__name__, self.output, named)]

    def _pairs(self, teacher_outputs: Any, student_outputs: Any) -> list[tuple[int, Tensor, Tensor]]:
        """Place, teacher's and student's output of each output the loss is on, checked."""
        teachers = aligned(f"{type(self).__name__}: the teacher's outputs", teacher_outputs, student_outputs)
        students = flat(student_outputs)
        pairs = [(spot, teachers[spot], students[spot]) for spot in self._places(student_outputs)]
        for _, teacher, student in pairs:
            self._check_shapes(tuple(teacher.shape), tuple(student.shape))
        return pairs

    def _check_shapes(self, teacher: tuple[int | None, ...], student: tuple[int | None, ...]) -> None:
        fits = len(teacher) == len(student) and all(a is None or b is None or a == b for a, b in zip(teacher, student, strict=True))
        if not fits:
            raise ValueError(
                f"{type(self).__name__}: teacher and student need logits of one shape. The teacher gives {teacher}, "
                f"the student {student}. Give the student as many outputs and classes as the teacher has."
            )
        if len(student) < 2 or (student[-1] is not None and student[-1] < self.min_classes):
            raise ValueError(
                f"{type(self).__name__} needs logits [batch, ..., classes] of at least {self.min_classes} classes. Received: {student}."
            )


class _Mean(keras.losses.Loss):
    """Keras's own reduction of values that are computed already."""

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        del y_true
        return y_pred


def mean_over_batch(name: str, values: Tensor, sample_weight: Any = None, mask: Any = None) -> Tensor:
    """Keras's mean over a batch.

    Args:
        name: of the loss.
        values: `[batch, ...]`.
        sample_weight: None, `[batch]` or `[batch, ...]`.
        mask: None, or bool `[batch, ...]`: positions that are left out.
    """
    if mask is not None:
        while len(values.shape) > len(mask.shape):
            values = keras.ops.mean(values, axis=-1)
        values._keras_mask = mask
    if sample_weight is not None:
        sample_weight = keras.ops.convert_to_tensor(sample_weight)
        # Keras lines up weights [batch] with the last axis; here they belong to the first.
        while len(sample_weight.shape) < len(values.shape):
            sample_weight = keras.ops.expand_dims(sample_weight, -1)
    return _Mean(name=name, dtype="float32")(values, values, sample_weight)


def positive(argument: str, value: Any) -> float:
    """`value` as a float above 0.

    Raises:
        ValueError: it is not one.
    """
    number = float_of(value) if isinstance(value, int | float | keras.Variable) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"`{argument}`: expected a number above 0. Received: {argument}={value!r}.")
    return number


def not_negative(argument: str, value: Any) -> float:
    """`value` as a float from 0.

    Raises:
        ValueError: it is not one.
    """
    number = float_of(value) if isinstance(value, int | float | keras.Variable) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"`{argument}`: expected a number from 0. Received: {argument}={value!r}.")
    return number


def float_of(value: Any) -> float:
    """A number, or the present value of a variable, as a float."""
    return float(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(value))) if isinstance(value, keras.Variable) else float(value)


def scalar(value: float, name: str) -> keras.Variable:
    """A non-trainable float32 variable, which a schedule may change while training."""
    return keras.Variable(value, shape=(), dtype="float32", trainable=False, autocast=False, aggregation="only_first_replica", name=name)


def class_numbers(owner: str, labels: Any, logits: Tensor) -> Tensor:
    """Class numbers int32 `[batch, ...]` from the labels of an output.

    Args:
        owner: who asks, for the error.
        labels: class numbers `[batch, ...]`, also with a last axis of 1, or one-hot rows `[batch, ..., classes]`.
        logits: the output's logits `[batch, ..., classes]`.

    Raises:
        ValueError: there are no labels.
    """
    if labels is None:
        raise ValueError(f"{owner} needs labels: use it in kdfuse.Distill on labelled rows, or give `labels`.")
    labels = keras.ops.convert_to_tensor(labels)
    if len(labels.shape) == len(logits.shape):
        one_hot = labels.shape[-1] == logits.shape[-1]
        labels = keras.ops.argmax(labels, axis=-1) if one_hot else keras.ops.squeeze(labels, axis=-1)
    return keras.ops.cast(labels, "int32")
