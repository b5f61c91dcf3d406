"""The model that is fitted while a student learns from a teacher."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kdfuse.distill.losses.base import Loss, scalar
from kdfuse.distill.outputs import like, logits_of, masks_of
from kdfuse.distill.structure import aligned, flat

Tensor = Any
INPUTS, TARGETS = "inputs", "teacher_logits"
"""The parts of x where the teacher's logits come with the data."""


class _Hidden:
    """What Keras must not track: the teacher is no part of the model that is trained, saved and counted."""

    def __init__(self, teacher: keras.Model | None, losses: list[keras.distillation.DistillationLoss]) -> None:
        self.teacher, self.losses, self.training = teacher, losses, False


class Distiller(keras.Model):
    """A student with the loss it is distilled by; `fit` trains the student in place.

    The loss of a training step is `label_weight * label loss + sum_i loss_weights[i] * losses[i] + student.losses`. The label
    loss is the compiled one. A step runs the student once, and the teacher at most once; all else (`train_step`, XLA, loss
    scaling, `tf.distribute`, gradient accumulation) is Keras's own. In `evaluate` and on validation data the loss is the label
    loss and the student's own losses, as without a teacher.

    Training data is `(x, y)` or `(x, y, sample_weight)`. Without a teacher (`teacher=None`) x is
    `{"inputs": x, "teacher_logits": logits}`.

    Args:
        student: a built model. It is trained in place.
        losses: distillation losses. kdfuse's own are copied; others (`keras.distillation.LogitsDistillation`) are called on
            logits, without sample weights.
        teacher: a built model that takes the student's inputs, run with `training=False` and left as it is; or None.
        label_weight: of the compiled loss.
        loss_weights: one for each loss.
        student_head: what the student's outputs are, see `kdfuse.distill.outputs.logits_of`.
        teacher_head: what the teacher's outputs are, where there is a teacher.

    Attributes:
        knobs: the variables that a schedule may change: `label_weight`, `loss_weights__0`, `losses__0__temperature` ...
    """

    def __init__(
        self,
        student: keras.Model,
        losses: Sequence[keras.distillation.DistillationLoss],
        *,
        teacher: keras.Model | None = None,
        label_weight: float = 0.5,
        loss_weights: Sequence[float] = (0.5,),
        student_head: Any = "logits",
        teacher_head: Any = "logits",
    ) -> None:
        # Keras wraps the optimizer for float16 by the dtype of the model that is compiled. Inputs go to the student as they are.
        super().__init__(name="distiller", dtype=student.dtype_policy, autocast=False)
        if len(loss_weights) != len(losses):
            raise ValueError(f"`loss_weights`: expected one for each loss, {len(losses)}. Received: {tuple(loss_weights)}.")
        self.student = student
        self.student_head, self.teacher_head = student_head, teacher_head
        attached = [loss.attached() if isinstance(loss, Loss) else loss for loss in losses]
        for loss in attached:
            if isinstance(loss, Loss):
                loss.check_head(student_head)
        self._hidden = _Hidden(teacher, attached)
        self.label_weight = scalar(label_weight, "label_weight")
        self.loss_weights = [scalar(weight, f"loss_weight_{place}") for place, weight in enumerate(loss_weights)]
        self.loss_settings = [variable for loss in attached if isinstance(loss, Loss) for variable in loss.variables()]
        self.term_trackers = [keras.metrics.Mean(name=name) for name in term_names(attached)]
        self.supports_jit = student.supports_jit and (teacher is None or all(layer.supports_jit for layer in teacher._flatten_layers()))
        if hasattr(student, "output_names"):
            self.output_names = list(student.output_names)
        self.built = student.built

    @property
    def teacher(self) -> keras.Model | None:
        """The teacher; None where its outputs come with the data."""
        return self._hidden.teacher

    @property
    def knobs(self) -> dict[str, keras.Variable]:
        found = {"label_weight": self.label_weight}
        for place, (weight, loss) in enumerate(zip(self.loss_weights, self._hidden.losses, strict=True)):
            found[f"loss_weights__{place}"] = weight
            if isinstance(loss, Loss):
                found.update({f"losses__{place}__{name}": getattr(loss, name) for name in loss.scheduled})
        return found

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.student(self._split(inputs)[0], training=training)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Tensor:
        self._hidden.training = training
        if y is None or self._compile_loss is None:
            raise ValueError("Distilling needs labels and a compiled `loss`. For soft targets alone give labels and `label_weight=0`.")
        label = self._compile_loss(y, y_pred, sample_weight)
        label = keras.ops.zeros(()) if label is None else label
        own = [self._aggregate_additional_loss(loss) for loss in self.losses]  # Keras divides them by the replicas too
        if not training:
            return sum(own, label)
        terms = self._terms(x, y_pred, sample_weight)
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

    def _terms(self, x: Any, y_pred: Any, sample_weight: Any) -> list[Tensor]:
        inputs, targets = self._split(x)
        if targets is None:
            targets = self._teach(inputs)
        outputs, masks = logits_of(y_pred, self.student_head), masks_of(y_pred)
        if isinstance(sample_weight, Mapping) and not isinstance(y_pred, Mapping):
            sample_weight = [sample_weight.get(name) for name in self.output_names]
        terms = []
        for loss in self._hidden.losses:
            if isinstance(loss, Loss):
                terms.append(loss.compute_loss(targets, outputs, sample_weight=sample_weight, mask=masks))
            else:
                same = like(outputs, aligned("the teacher's outputs", targets, outputs))
                loss.validate_outputs(same, outputs)
                terms.append(keras.ops.mean(keras.ops.cast(loss.compute_loss(same, outputs), "float32")))
        return terms

    def _teach(self, inputs: Any) -> Any:
        teacher = self._hidden.teacher
        if teacher is None:
            raise ValueError(f"`x`: without a `teacher`, expected a dict of {INPUTS!r} and {TARGETS!r}, the teacher's logits.")
        targets = logits_of(teacher(inputs, training=False), self.teacher_head)
        # A teacher with activity regularisers would keep tensors of this graph.
        teacher._clear_losses()
        return like(targets, [keras.ops.stop_gradient(target) for target in flat(targets)])

    def _split(self, x: Any) -> tuple[Any, Any]:
        packed = self._hidden.teacher is None and isinstance(x, Mapping) and set(x) == {INPUTS, TARGETS}
        return (x[INPUTS], x[TARGETS]) if packed else (x, None)


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
