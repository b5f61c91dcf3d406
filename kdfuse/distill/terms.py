"""The terms of a distillation's loss while a student is trained: every loss against every teacher."""

from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.distill.lessons import Lesson, whole
from kdfuse.distill.losses.base import Loss, class_numbers
from kdfuse.distill.losses.features import FeatureLoss, Shape
from kdfuse.distill.outputs import like
from kdfuse.distill.structure import aligned, flat
from kdfuse.distill.weighting import confidence_weights, entropy_weights

Tensor = Any
Losses = Sequence[Any]
"""Of `keras.distillation.DistillationLoss`."""


def layers_of(losses: Losses) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
    """The layers of a teacher and of the student that losses read, each once."""
    features = [loss for loss in losses if isinstance(loss, FeatureLoss)]
    return (
        tuple(dict.fromkeys(name for loss in features for name in loss.teacher_layers)),
        tuple(dict.fromkeys(name for loss in features for name in loss.student_layers)),
    )


def needs_rows(losses: Losses) -> bool:
    """Whether a loss asks for the numbers of the rows."""
    return any(loss.needs_rows for loss in losses if isinstance(loss, FeatureLoss))


class Terms:
    """Losses, each in a private copy for each teacher, since trained parts belong to one teacher's features.

    Args:
        losses: distillation losses. kdfuse's own are copied; others are called on logits.
        teachers: how many there are.
        teacher_weights: `mean`, `entropy`, `confidence`, or a number for each teacher, which are brought to the sum 1.

    Attributes:
        losses: the first teacher's copies: their settings are those of all.
    """

    def __init__(self, losses: Losses, teachers: int = 1, teacher_weights: Any = "mean") -> None:
        self.losses = [loss.attached() if isinstance(loss, Loss) else loss for loss in losses]
        self._copies = [self.losses]
        for _ in range(1, teachers):
            self._copies.append([loss.attached(sharing=loss) if isinstance(loss, Loss) else loss for loss in self.losses])
        self.weighting = teacher_weights if isinstance(teacher_weights, str) and teachers > 1 else "mean"
        numbers = (1.0,) * teachers if isinstance(teacher_weights, str) else tuple(teacher_weights)
        self._numbers = [number / sum(numbers) for number in numbers]

        self.teacher_layers, self.student_layers = layers_of(losses)

    @property
    def parts(self) -> list[keras.Layer]:
        """All layers that are trained with the student."""
        return [part for losses in self._copies for loss in losses if isinstance(loss, Loss) for part in loss.parts]

    def build(self, teachers: Sequence[Sequence[Shape]], student: Sequence[Shape], rows: int | None) -> None:
        """Make the trained parts of the losses on features.

        Args:
            teachers: for each teacher the shapes of the features of `teacher_layers`.
            student: the shapes of the features of `student_layers`.
            rows: of the training split, None for a stream.
        """
        made = {name: (None, *shape[1:]) for name, shape in zip(self.student_layers, student, strict=True)}
        for losses, shapes in zip(self._copies, teachers, strict=True):
            given = {name: (None, *shape[1:]) for name, shape in zip(self.teacher_layers, shapes, strict=True)}
            for loss in losses:
                if isinstance(loss, FeatureLoss):
                    own, other = [given[name] for name in loss.teacher_layers], [made[name] for name in loss.student_layers]
                    try:
                        loss.build(own, other, rows)
                        loss.validate_outputs([keras.KerasTensor(s) for s in own], [keras.KerasTensor(s) for s in other])
                    except ValueError as error:
                        raise ValueError(
                            f"`losses`: {type(loss).__name__} on the teacher's {loss.teacher_layer_name or 'features before the head'} and "
                            f"the student's {loss.student_layer_name or 'features before the head'}: {error}"
                        ) from error

    def values(
        self,
        lessons: Sequence[Lesson],
        outputs: Any,
        features: Sequence[Tensor],
        *,
        labels: Any = None,
        sample_weight: Any = None,
        masks: Any = None,
        rows: Any = None,
    ) -> list[Tensor]:
        """The value of each loss on a batch.

        Args:
            lessons: of each teacher.
            outputs: the student's logits.
            features: of the student's layers `student_layers`.
            labels: like the outputs, or None.
            sample_weight: None, `[batch]` or `[batch, ...]`, or a structure of them like the outputs.
            masks: of the outputs, in their structure.
            rows: the numbers of the rows `[batch]`, or None.
        """
        lessons = [whole(lesson, outputs) for lesson in lessons]
        made = dict(zip(self.student_layers, features, strict=True))
        shares, weights = self._shares(lessons, outputs, labels, sample_weight)
        extra = {"labels": labels, "rows": rows}
        totals: list[Tensor] = []
        for place in range(len(self.losses)):
            total: Tensor = 0.0
            for losses, lesson, share, weight in zip(self._copies, lessons, shares, weights, strict=True):
                loss = losses[place]
                if isinstance(loss, FeatureLoss):
                    given = dict(zip(self.teacher_layers, lesson["features"], strict=True))
                    ours, theirs = [made[name] for name in loss.student_layers], [given[name] for name in loss.teacher_layers]
                    value = loss.compute_loss(theirs, ours, sample_weight=weight, **extra)
                elif isinstance(loss, Loss):
                    value = loss.compute_loss(lesson["logits"], outputs, sample_weight=weight, mask=masks, **extra)
                else:
                    same = like(outputs, aligned("the teacher's outputs", lesson["logits"], outputs))
                    loss.validate_outputs(same, outputs)
                    value = keras.ops.mean(keras.ops.cast(loss.compute_loss(same, outputs), "float32"))
                total = total + (value if share == 1.0 else share * value)
            totals.append(total)
        return totals

    def _shares(self, lessons: Sequence[Lesson], outputs: Any, labels: Any, sample_weight: Any) -> tuple[list[float], list[Any]]:
        """For each teacher a number for the whole batch, and the sample weights of its losses."""
        if self.weighting == "mean":
            return self._numbers, [sample_weight] * len(lessons)
        logits = [aligned("the teacher's outputs", lesson["logits"], outputs) for lesson in lessons]
        truth = aligned("labels", labels, outputs, repeat=True)
        own = aligned("sample_weight", sample_weight, outputs, repeat=True)
        columns = []
        for spot, student in enumerate(flat(outputs)):
            each = [one[spot] for one in logits]
            if self.weighting == "confidence":
                found = confidence_weights(each, class_numbers("`teacher_weights`: 'confidence'", truth[spot], student))
            else:
                found = entropy_weights(each)
            columns.append([_times(weight, own[spot]) for weight in found])
        return [1.0] * len(lessons), [like(outputs, [column[k] for column in columns]) for k in range(len(lessons))]


def _times(weight: Tensor, sample_weight: Any) -> Tensor:
    if sample_weight is None:
        return weight
    sample_weight = keras.ops.cast(sample_weight, weight.dtype)
    while len(sample_weight.shape) < len(weight.shape):
        sample_weight = keras.ops.expand_dims(sample_weight, -1)
    while len(sample_weight.shape) > len(weight.shape):
        sample_weight = keras.ops.squeeze(sample_weight, -1)
    return weight * sample_weight
