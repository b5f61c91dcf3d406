"""Mutual learning: students teach each other."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from kdfuse import runtime
from kdfuse.data import Data
from kdfuse.distill import checks
from kdfuse.distill.cohort import Cohort
from kdfuse.distill.losses.base import Loss
from kdfuse.distill.losses.features import FeatureLoss
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.distill.outputs import like, logits_of
from kdfuse.distill.structure import aligned, flat
from kdfuse.fitting.loan import precision
from kdfuse.graph.copy import copy_model
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.graph.heads import detect_head
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Fitted, Train


@settings
class MutualLearning(Technique):
    """Train several students together, each on the labels and on what the others say.

    The loss of student i is `label_weight * label loss + sum_k loss_weights[k] * mean over j != i of losses[k](j, i)` and its
    own regularisers. All students see the same batch, run once, and are updated at the same time (the paper updates one
    after another, each with a new forward pass of those before it). They need the same inputs and classes, and may differ
    in all else, also in their heads. Needs two or more students of different weights: equal ones teach each other nothing.

    Called as `students, report = MutualLearning(...)([a, b], data)`. The report's figures are those of the student that is
    best on validation, `mean/...` is over all, and its history has `train/student_1/accuracy` and so on; without a
    student's name it is the mean.

    Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning, 2018 (arXiv 1706.00384). It uses T = 1 and weights of 1.

    Attributes:
        losses: one or more distillation losses on logits.
        training: how to fit. One optimizer trains all students, so a limit of the global norm is over all of them; early
            stopping is for all at once.
        label_weight: of the label loss, from 0.
        loss_weights: one for each loss, from 0. None: 1 each.
        control: also trains each student alone under the same `training`, and reports the difference.
    """

    losses: tuple[keras.distillation.DistillationLoss, ...] = (SoftTargets(1.0),)
    training: Train = Train()
    label_weight: float = 1.0
    loss_weights: tuple[float, ...] | None = None
    control: bool = False

    row = "student"
    takes_models = True
    gives_models = True

    def __post_init__(self) -> None:
        checks.check_losses(self.losses, "mean")
        for loss in self.losses:
            if isinstance(loss, FeatureLoss):
                raise ValueError(
                    f"`losses`: {type(loss).__name__} reads layers inside a teacher, and students teach each other by their outputs. Use a "
                    "loss on logits, such as kdfuse.SoftTargets(1.0)."
                )
        if not isinstance(self.training, Train):
            raise TypeError(f"`training`: expected kdfuse.Train(...). Received: {self.training!r}.")
        checks.check_loss_weights(self._weights(), self.label_weight, len(self.losses))
        if not isinstance(self.control, bool):
            raise ValueError(f"`control`: expected True or False. Received: control={self.control!r}.")

    def check(self, model: Sequence[keras.Model], data: Data) -> None:
        if len(model) < 2:
            raise ValueError(f"`model`: expected two or more students. Received: {len(model)}. Give [a, b].")
        example = data.example(2)
        copies = []
        for place, student in enumerate(model):
            with _named(place):
                self.training.check(student, data)
            copies.append(copy_model(student, example))
        marks = [fingerprint(copy) for copy in copies]
        if len(set(marks)) < len(marks):
            first, second = next((i, j) for j in range(len(marks)) for i in range(j) if marks[i] == marks[j])
            raise ValueError(
                f"`model`: students {first + 1} and {second + 1} are equal, weights too, so they have nothing to teach each other. Build "
                "each with a seed of its own."
            )
        heads = self._heads(copies, data)
        outputs = [checks.run("model", copy, example, data) for copy in copies]
        logits = [logits_of(one, head) for one, head in zip(outputs, heads, strict=True)]
        for i, (one, head) in enumerate(zip(logits, heads, strict=True)):
            for j, other in enumerate(logits):
                if len(flat(one)) != len(flat(other)):
                    raise ValueError(
                        f"`model`: student {i + 1} has {len(flat(one))} outputs, student {j + 1} has {len(flat(other))}. Give all the same."
                    )
                with _named(i):
                    same = like(one, aligned(f"the outputs of student {j + 1}", other, one))
                    for loss in self.losses:
                        if isinstance(loss, Loss):
                            loss.check_head(head)
                        loss.validate_outputs(same, one)

    def apply(self, model: Sequence[keras.Model], data: Data) -> Result:
        students = [self.training.private(student, data) for student in model]
        fitted = self._fit(students, data)
        rows = tuple(f"student {place + 1}" for place in range(len(students)))
        given = tuple(self.training.public(student, data) for student in students)
        result = Result(given, fitted.history, notes=fitted.notes, rows=rows, heads={"model": self.training.head})
        if self.control:
            for place, student in enumerate(model):
                name = f"control {place + 1}"
                result.baselines[name], _ = self.training(student, data, name=name)
                result.heads[name] = self.training.head
        return result

    def _fit(self, students: list[keras.Model], data: Data) -> Fitted:
        """Train the students in place."""
        heads = self._heads(students, data)
        # Train lends its precision to one model whose last layers it knows; here each student has last layers of its own.
        training = dataclasses.replace(self.training, precision=None)
        with contextlib.ExitStack() as stack:
            for student in students:
                stack.enter_context(precision(student, self.training.precision))
            with runtime.strategy(self.training.strategy).scope():
                for student in students:
                    optimizer = student.optimizer if student.compiled else "sgd"
                    student.compile(optimizer, **self.training.objective(student, data))
                weights = self._weights()
                cohort = Cohort(
                    students, self.losses, heads=heads, label_weight=self.label_weight, loss_weights=weights, name="mutual_learning"
                )
                cohort.prepare(tuple(part for part in data.train.head(2) if part is not None))
            fitted = training.fit(cohort, data)
        return Fitted(fitted.history, [f"Heads: {', '.join(map(str, heads))}.", *fitted.notes])

    def _weights(self) -> tuple[float, ...]:
        return (1.0,) * len(self.losses) if self.loss_weights is None else self.loss_weights

    def _heads(self, students: Sequence[keras.Model], data: Data) -> list[Any]:
        example = data.example(8)
        return [detect_head(student, data.task, example, self.training.head) for student in students]


@contextlib.contextmanager
def _named(place: int) -> Any:
    """Errors inside say which student they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Student {place + 1}: {error}") from error
