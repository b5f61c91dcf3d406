"""The model that is fitted while students learn from each other."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from kdfuse.distill.distiller import term_names
from kdfuse.distill.losses.base import Loss
from kdfuse.distill.outputs import like, logits_of, masks_of
from kdfuse.distill.structure import aligned, flat

Tensor = Any


class _Hidden:
    """What Keras must not track."""

    def __init__(self, losses: Sequence[keras.distillation.DistillationLoss]) -> None:
        self.losses, self.training = tuple(losses), True


@keras.saving.register_keras_serializable("kdfuse")
class Cohort(keras.Model):
    """Students that are trained together; `fit` trains all of them in place.

    The loss of a step is the sum over the students i of `label_weight * label loss_i + sum_k loss_weights[k] * mean over the
    other students j of losses[k](j, i)`, and all their regularisers. What j says is constant for i, so each student gets the
    gradient of its own part alone. The label loss of a student is the one that it is compiled with. In `evaluate` and on
    validation data the loss is the sum of the label losses and the regularisers.

    Logs are `student_1/label_loss`, `student_1/<loss>`, `student_1/<metric>` and so on, and `<metric>` for the mean over the
    students.

    Args:
        students: built and compiled models of the same inputs, whose logits have the same shapes. One step runs each of
            them once.
        losses: distillation losses on logits.
        heads: what each student's outputs are, see `kdfuse.distill.outputs.logits_of`.
        label_weight: of the label losses.
        loss_weights: one for each loss.
        name: of the model.
    """

    def __init__(
        self,
        students: Sequence[keras.Model],
        losses: Sequence[keras.distillation.DistillationLoss] = (),
        *,
        heads: Sequence[Any] = (),
        label_weight: float = 1.0,
        loss_weights: Sequence[float] = (),
        name: str = "cohort",
    ) -> None:
        # Keras scales the loss for float16 by the dtype of the model that is compiled.
        half = [student.dtype_policy for student in students if student.dtype_policy.compute_dtype == "float16"]
        super().__init__(name=name, dtype=(half or [students[0].dtype_policy])[0], autocast=False)
        self.students = list(students)
        self.heads, self.label_weight, self.loss_weights = list(heads), label_weight, list(loss_weights)
        self._hidden = _Hidden(losses)
        self.terms = term_names(losses)
        self.trackers = [keras.metrics.Mean(name=f"student_{i + 1}_{term}") for i in range(len(students)) for term in self.terms]
        self.supports_jit = all(student.supports_jit for student in students)
        self.built = all(student.built for student in students)

    def prepare(self, batch: tuple[Any, ...]) -> Self:
        """Make the states of the students' losses and metrics, which no step may make; `batch`: a few rows as they are fitted."""
        tensors = keras.tree.map_structure(tf.convert_to_tensor, batch)
        for student in self.students:
            student._symbolic_build(data_batch=tensors)
        # `Train` leaves the loss of a compiled model as it is; each student has its own, so this one is never asked.
        self.compile("sgd", loss=keras.losses.MeanSquaredError(), jit_compile=False)
        return self

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        own = [metric for student in self.students for metric in student._get_own_metrics() if metric is not student._loss_tracker]
        return [*super().metrics, *own]

    def call(self, inputs: Any, training: bool | None = None) -> list[Any]:
        return [student(inputs, training=training) for student in self.students]

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Tensor:
        self._hidden.training = training
        own = [self._aggregate_additional_loss(loss) for loss in self.losses]
        labels = [student._compile_loss(y, outputs, sample_weight) for student, outputs in zip(self.students, y_pred, strict=True)]
        if not training:
            return sum([*labels, *own])
        logits = [logits_of(outputs, head) for outputs, head in zip(y_pred, self.heads, strict=True)]
        said = [like(one, [keras.ops.stop_gradient(leaf) for leaf in flat(one)]) for one in logits]
        total = sum(own)
        rows = keras.ops.shape(keras.tree.flatten(y_pred)[0])[0]
        # Keras divides losses by the replicas, whose gradients are summed; logs show the whole.
        replicas = float(tf.distribute.get_strategy().num_replicas_in_sync)
        trackers = iter(self.trackers)
        for i, label in enumerate(labels):
            others = [one for j, one in enumerate(said) if j != i]
            terms = self._terms(i, others, logits[i], y_pred[i], y, sample_weight)
            for term in [label, *terms]:
                next(trackers).update_state(term * replicas, sample_weight=rows)
            total = total + self.label_weight * label + sum(w * term for w, term in zip(self.loss_weights, terms, strict=True))
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        trackers = iter(self.trackers)
        for student, outputs in zip(self.students, y_pred, strict=True):
            terms = {term: next(trackers).result() for term in self.terms}
            found.append(terms if self._hidden.training else {})
            if student._compile_metrics is not None:
                student._compile_metrics.update_state(y, outputs, sample_weight)
                found[-1] |= student._compile_metrics.result()
        results = {"loss": self._loss_tracker.result()}
        for name in found[0]:
            if all(name in one for one in found):
                results[name] = sum(one[name] for one in found) / len(found)
        return results | {f"student_{i + 1}/{name}": value for i, one in enumerate(found) for name, value in one.items()}

    def _terms(self, place: int, others: list[Any], logits: Any, outputs: Any, y: Any, sample_weight: Any) -> list[Tensor]:
        """Each loss of one student, the mean over the others."""
        names = getattr(self.students[place], "output_names", None)
        if not isinstance(outputs, Mapping) and names:
            y, sample_weight = (
                [value.get(name) for name in names] if isinstance(value, Mapping) else value for value in (y, sample_weight)
            )
        masks, terms = masks_of(outputs), []
        for loss in self._hidden.losses:
            values = []
            for other in others:
                same = like(logits, aligned("the other student's outputs", other, logits))
                if isinstance(loss, Loss):
                    values.append(loss.compute_loss(same, logits, sample_weight=sample_weight, mask=masks, labels=y))
                else:
                    values.append(keras.ops.mean(keras.ops.cast(loss.compute_loss(same, logits), "float32")))
            terms.append(sum(values) / float(len(values)))
        return terms

    def get_config(self) -> dict[str, Any]:
        """The students and the weights; a file of a cohort is there to rescue what was trained."""
        return {
            "students": [keras.saving.serialize_keras_object(student) for student in self.students],
            "heads": self.heads, "name": self.name,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        students = [keras.saving.deserialize_keras_object(student) for student in config.pop("students")]
        return cls(students, **config)
