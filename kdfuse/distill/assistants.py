"""Teacher assistants: from a large teacher to a small student in steps."""

import itertools
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.graph.copy import copy_model
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Train


@settings
class AssistantChain(Technique):
    """Distil a teacher into models of middle size, one after the other, and the last of them into the student.

    A student learns less from a teacher that is far larger than it. Each step is a child run; the report's table `steps` has
    the figures of each, and their models are recorded there. Its own figures are the student's, beside the teacher.

    Mirzadeh et al.: Improved Knowledge Distillation via Teacher Assistant, 2020 (arXiv 1902.03393).

    Attributes:
        teacher: a trained model. It stays as it is.
        assistants: untrained models between the teacher and the student, the largest first. They stay as they are.
        losses: as in `Distill`, in every step.
        training: how to fit in every step.
        label_weight: as in `Distill`.
        loss_weights: as in `Distill`.
        control: also distils the same student from the teacher itself, in the same way, and reports the difference.
    """

    teacher: keras.Model
    assistants: tuple[keras.Model, ...]
    losses: tuple[keras.distillation.DistillationLoss, ...] = (SoftTargets(),)
    training: Train = Train()
    label_weight: float = 0.5
    loss_weights: tuple[float, ...] | None = None
    control: bool = False

    row = "student"
    keeps_structure = True

    def __post_init__(self) -> None:
        self._distill(self.teacher)  # which checks it, and the other settings
        models = self.assistants if isinstance(self.assistants, tuple) else (self.assistants,)
        wrong = [one for one in models if not isinstance(one, keras.Model)]
        if wrong or not isinstance(self.assistants, tuple) or not models:
            raise TypeError(f"`assistants`: expected a list of one or more keras.Model, the largest first. Received: {self.assistants!r}.")
        if not isinstance(self.control, bool):
            raise ValueError(f"`control`: expected True or False. Received: control={self.control!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        above, sizes = self.teacher, [self.teacher.count_params()]
        for place, below in enumerate([*self.assistants, model]):
            try:
                self._distill(above).check(below, data)
            except ValueError as error:
                raise ValueError(f"Step {place + 1}, {above.name!r} to {below.name!r}: {error}") from error
            above = below if below.built else copy_model(below, data.example(2))
            sizes.append(above.count_params())
        for place, (large, small) in enumerate(itertools.pairwise(sizes[1:])):
            if small >= large:
                raise ValueError(
                    f"`assistants`: expected them from the largest to the smallest, above the student. Received: {large:,} parameters at "
                    f"place {place}, then {small:,}. Put them in order."
                )

    def apply(self, model: keras.Model, data: Data) -> Result:
        above, rows = self.teacher, []
        for place, below in enumerate([*self.assistants, model]):
            above, report = self._distill(above)(below, data, name=f"{place + 1}. {below.name}")
            rows.append({"model": report.name, **report.metrics})
        result = Result(above, report.history, tables={"steps": rows}, notes=report.notes, baselines={"teacher": self.teacher})
        result.heads = {"model": self.training.head, "control": self.training.head}
        if self.control:
            result.baselines["control"], _ = self._distill(self.teacher)(model, data, name="control")
        return result

    def _distill(self, teacher: Any) -> Distill:
        return Distill(
            teacher, losses=self.losses, training=self.training, label_weight=self.label_weight, loss_weights=self.loss_weights,
        )  # fmt: skip
