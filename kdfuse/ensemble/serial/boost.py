"""Boost: members one after another, each trained on what those before it got wrong."""

from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.ensemble.ensemble import beside
from kdfuse.ensemble.grown import Grown, at_place, born, check_count, need_arrays, seed_of
from kdfuse.ensemble.joined import join
from kdfuse.ensemble.members import take
from kdfuse.ensemble.parallel.training import check_training, with_train
from kdfuse.ensemble.serial.residuals import Residuals
from kdfuse.ensemble.serial.reweighting import Reweighting
from kdfuse.fitting.compiled import carry_compile
from kdfuse.graph.heads import detect_head
from kdfuse.settings import choose, settings
from kdfuse.technique import Result
from kdfuse.train import Train, Trainer

WAYS = ("samme", "residual")


@settings
class Boost(Grown):
    """Train members one after another and add them up.

    Called with a builder, or with a model, of which the architecture counts; each member starts from new weights and is a child run. The
    training rows must be arrays.

    Attributes:
        members: how many at most, at least 2.
        how: `"samme"`: each member is trained with more weight on the rows that those before it got wrong, and votes with a weight of
            its own (Zhu et al., 2009, "Multi-class AdaBoost"; as scikit-learn's `AdaBoostClassifier`); it ends early where a member makes
            no error, or is no better than chance. `"residual"`: each member fits what is left of the targets, a value or the
            gradient of the log loss, by least squares, and is added with Newton's step times `learning_rate` (Friedman, 2001, "Greedy
            Function Approximation"); members must give logits or values, and `training` must leave the loss to it.
        learning_rate: how much of its weight a member gets, above 0.
        training: how to fit each member; its seed is the base of all.
    """

    members: int = 5
    how: str = "samme"
    learning_rate: float = 1.0
    training: Trainer = Train()

    def __post_init__(self) -> None:
        check_count("members", self.members, 2)
        choose("how", self.how, WAYS)
        check_training(self.training)
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
            raise ValueError(f"`learning_rate`: expected a number above 0. Received: {rate!r}.")
        if self.how == "residual" and not isinstance(self.training, Train):
            raise TypeError(f"`training`: expected Train(...), for a residual has no teacher. Received: {self.training!r}.")
        loss = getattr(self.training, "loss", "auto")
        if self.how == "residual" and not (isinstance(loss, str) and loss == "auto"):
            raise ValueError(f"`training`: expected loss='auto', for residuals are fitted by least squares. Received: loss={loss!r}.")

    def given(self, model: Any, data: Data) -> Any:
        if not isinstance(model, keras.Model) and callable(model) and not isinstance(model, keras.Layer) and isinstance(data, Data):
            model = model(data)
        return super().given(model, data)

    def check(self, model: keras.Model, data: Data) -> None:
        super().check(model, data)
        need_arrays("Boost", data, "every row has a weight or a residual of its own")
        if isinstance(data.task, dict | list | tuple) or data.task == "multilabel":
            raise ValueError(f"`data` of Boost: expected one output of classes or values. Received: the task {data.task!r}.")
        head = detect_head(model, data.task, data.example(4))
        if self.how == "samme" and head == "regression":
            raise ValueError("`how`: expected 'residual' for a regression. Received: 'samme', which weighs wrong decisions.")
        if self.how == "residual" and head not in ("logits", "sigmoid_logits", "regression"):
            raise ValueError(f"`model` of Boost: expected one that gives logits or values, for how='residual'. Received: the head {head}.")
        shape = tuple(model(data.example(2), training=False).shape)
        if len(shape) != 2:
            raise ValueError(f"`model` of Boost: expected outputs of shape (rows, columns). Received: {shape}.")
        fresh = born(model, data, 0, 0)
        if self.how == "residual":
            # The training checks it against rows that are a regression, whatever the data are.
            self._member(0).check(fresh, Residuals(data, head, self.learning_rate).data())

    def apply(self, model: keras.Model, data: Data) -> Result:
        seed = seed_of(self.training)
        head = detect_head(model, data.task, data.example(4))
        rounds = Reweighting(data, self.learning_rate) if self.how == "samme" else Residuals(data, head, self.learning_rate)
        models: list[keras.Model] = []
        for place in range(self.members):
            fresh = born(model, data, seed, place)
            if self.how == "samme":
                carry_compile(model, fresh)
            made, _ = self._member(place)(fresh, rounds.data(), name=f"member {place + 1}")
            if rounds.take(made):
                models.append(made)
            if rounds.ended:
                break
        if not models:
            raise ValueError(
                "`training` of Boost: the first member is no better than chance on the training rows. Train it longer, or at another rate."
            )
        scale = "probabilities" if self.how == "samme" else None
        joined = join(take(models, data), data, lambda place: rounds.combiner(), scale=scale, name="boosted")
        # What members of residuals say alone means nothing, so that only those of SAMME are measured beside it.
        result = Result(joined, notes=rounds.notes, baselines=beside(models) if self.how == "samme" else {})
        result.tables["boosting"] = [{"model": f"member {place + 1}", **row} for place, row in enumerate(rounds.rows)]
        result.tables["weights"] = [{"model": row["model"], "weight": row["weight"]} for row in result.tables["boosting"]]
        result.metrics["boost/members"] = float(len(models))
        result.heads = {"model": rounds.head}
        return result

    def _member(self, place: int) -> Any:
        """The training of a member. What the head of a residual is, is known: values."""
        training = at_place(self.training, place)
        return with_train(training, head="auto") if self.how == "residual" else training
