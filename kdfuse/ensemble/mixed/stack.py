"""Stack: a model that learns how far to trust each member."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.calls import check_call
from kdfuse.data import Data
from kdfuse.ensemble.calibrate import need_validation
from kdfuse.ensemble.ensemble import Ensemble, beside
from kdfuse.ensemble.joined import SCALES
from kdfuse.ensemble.members import Member, flat_heads, free_name, kept_names, take
from kdfuse.ensemble.mixed.features import Features, check_flat, check_one_a_row, features_of, parts_in
from kdfuse.ensemble.mixed.folds import out_of_fold
from kdfuse.ensemble.mixed.linear import fit_linear
from kdfuse.ensemble.parallel.training import check_training
from kdfuse.ensemble.values import Probabilities
from kdfuse.graph.heads import detect_head
from kdfuse.graph.renew import renew
from kdfuse.measure.measure import Part, told
from kdfuse.measure.predict import one_pass
from kdfuse.settings import choose, settings
from kdfuse.splits import ArraySplit
from kdfuse.technique import Result
from kdfuse.train import Fitted, Train, Trainer

TOLD = ("accuracy", "log_loss", "mae", "rmse")
Builder = Callable[[Data], keras.Model]


@settings
class Stack(Ensemble):
    """Put a model over the members that has learnt from their predictions, on rows that they were not trained on.

    The result is one graph of the members as they were given and the meta-model; it gives probabilities, of a regression values. For
    several outputs the meta-model sees the predictions of all of them. The table `stack` tells how good each member was on the rows the
    meta-model learnt from. A result of `Stack` can be a member of another one; in the folds it is retrained as the one network that it is.
    Wolpert, 1992, "Stacked Generalization".

    Attributes:
        meta: `"logistic"`: one Dense layer, fitted to convergence by scikit-learn's logistic regression (of a regression by its ridge
            regression); or a builder, called on data whose inputs are the predictions `[rows, columns]`: `kdfuse.models.mlp`.
        folds: in how many parts the training rows are cut, by class. Copies of the members are trained anew on all parts but one, and
            the meta-model learns from what they say of that one: `folds` times the training of the members. None: it learns from what the
            members given say of the validation split, which is then no fair measure of the result.
        training: how copies of the members are trained in the folds: give what the members themselves were trained with. None for
            `Train(epochs=20)`.
        meta_training: how a meta-model from a builder is trained. None for `Train(epochs=50)`.
        passthrough: whether the meta-model sees the inputs as well, flat, after the predictions.
        scale: what it sees of classifiers: `"probabilities"` or `"logits"`.
        C: inverse of the logistic regression's L2 penalty, above 0, as in scikit-learn; the ridge regression has `alpha = 1 / C`.
        seed: of the folds and of the new weights in them.
    """

    meta: str | Builder = "logistic"
    folds: int | None = 5
    training: Trainer | None = None
    meta_training: Trainer | None = None
    passthrough: bool = False
    scale: str = "probabilities"
    C: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        choose("scale", self.scale, SCALES)
        if isinstance(self.meta, str):
            choose("meta", self.meta, ("logistic",))
        elif not callable(self.meta) or isinstance(self.meta, keras.Layer):
            raise TypeError(f"`meta`: expected 'logistic' or a builder such as kdfuse.models.mlp. Received: {self.meta!r}.")
        if self.folds is not None and (isinstance(self.folds, bool) or not isinstance(self.folds, int) or self.folds < 2):
            raise ValueError(f"`folds`: expected an integer of at least 2, or None for the validation split. Received: {self.folds!r}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"`seed`: expected an integer of at least 0. Received: {self.seed!r}.")
        if not isinstance(self.passthrough, bool):
            raise ValueError(f"`passthrough`: expected True or False. Received: {self.passthrough!r}.")
        if isinstance(self.C, bool) or not isinstance(self.C, int | float) or not 0 < self.C < float("inf"):
            raise ValueError(f"`C`: expected a number above 0. Received: {self.C!r}.")
        if self.training is not None:
            check_training(self.training)
            if self.folds is None:
                raise ValueError("`training`: expected None with folds=None, for no member is trained then. Received: a training.")
        if self.meta_training is not None:
            check_training(self.meta_training)
            if self.meta == "logistic":
                raise ValueError("`meta_training`: expected None with meta='logistic', which scikit-learn fits. Received: a training.")
        if self.meta != "logistic" and self.C != 1.0:
            raise ValueError(f"`C`: expected 1.0 with a builder as `meta`: it is of the logistic regression. Received: {self.C!r}.")

    def check(self, model: Sequence[keras.Model], data: Data) -> None:
        super().check(model, data)
        if not data.labelled:
            raise ValueError("`data` of Stack: the training rows have no labels to learn from. Give train=(x, y).")
        members = take(model, data)
        check_one_a_row("Stack", members[0])
        if self.passthrough:
            check_flat("passthrough", data, "Give False.")
        if self.folds is None:
            need_validation("Stack", data, "with folds=None the meta-model learns on it")
        else:
            self._check_folds(model, data)
        if not isinstance(self.meta, str):
            rows = data.train.head(64)
            features = one_pass(self._graph(members, data).model, ArraySplit(*rows)).outputs
            self._build(ArraySplit(features, *rows[1:]), None, data)

    def apply(self, model: Sequence[keras.Model], data: Data) -> Result:
        members = take(model, data)
        graph = self._graph(members, data)
        if self.folds is None:
            assert data.validation is not None
            done = one_pass(graph.model, data.validation)
            features, targets, weights = done.outputs, done.targets, done.weights
        else:
            features = out_of_fold(
                model, data, self._training, self.folds, self.seed, lambda again: self._graph(again, data).model
            )  # fmt: skip
            targets, weights = data.train.targets(), data.train.weights()
        parts = parts_in(features, targets, weights, members, data, self.scale)
        if isinstance(self.meta, str):
            result = self._linear(graph, features, parts, members)
        else:
            held = None
            if self.folds is not None and data.validation is not None:
                done = one_pass(graph.model, data.validation)
                held = ArraySplit(done.outputs, done.targets, done.weights)
            result = self._built(graph, ArraySplit(features, targets, weights), held, members, data)
        result.baselines = beside(model)
        result.tables["stack"] = [
            {"model": f"{place + 1}: {member.model.name}", **_figures(own, data)}
            for place, (member, own) in enumerate(zip(members, parts, strict=True))
        ]
        where = "the validation rows: its figures there are flattered" if self.folds is None else f"predictions out of {self.folds} folds"
        result.notes.insert(0, f"The meta-model learnt from {where}.")
        return result

    @property
    def _training(self) -> Any:
        return Train(epochs=20) if self.training is None else self.training

    @property
    def _meta_training(self) -> Any:
        return Train(epochs=50) if self.meta_training is None else self.meta_training

    def _graph(self, members: Sequence[Member], data: Data) -> Features:
        return features_of(members, data, self.scale, self.passthrough)

    def _check_folds(self, models: Sequence[keras.Model], data: Data) -> None:
        if not isinstance(data.train, ArraySplit):
            raise ValueError("`folds`: expected None for a stream, whose rows cannot be cut in parts. Received: a stream in `train`.")
        assert self.folds is not None
        if len(data.train) < 2 * self.folds:
            raise ValueError(f"`folds`: expected two rows or more in each. Received: folds={self.folds} for {len(data.train)} rows.")
        for place, model in enumerate(models):
            try:
                self._training.check(renew(model, self.seed, data.example(2)), data)
            except ValueError as error:
                message = (
                    f"`model` of Stack: member {place + 1} ({model.name!r}) cannot be trained anew in the folds. Give folds=None. {error}"
                )
                raise ValueError(message) from error

    def _linear(self, graph: Features, features: np.ndarray, parts: Sequence[Sequence[Part]], members: Sequence[Member]) -> Result:
        flat, result, names = [], Result(None), _names(members)
        ends = kept_names(members[0], [f"stack_{part.label}" if part.label else "stack_output" for part in parts[0]])
        for part, head, end in zip(parts[0], flat_heads(members[0]), ends, strict=True):
            found = fit_linear(features, part.targets, part.weights, head, part.values.shape[-1], self.C)
            layer = keras.layers.Dense(len(found.bias), activation=found.activation, dtype="float32", name=free_name(end, names))
            flat.append(layer(graph.features))
            layer.set_weights([found.kernel, found.bias])
            if not found.converged:
                result.notes.append(f"The fit of the meta-model{_of(part.label)} did not converge. Give a smaller `C`.")
        structure = members[0].outputs
        outputs = keras.tree.pack_sequence_as(structure, flat) if keras.tree.is_nested(structure) else flat[0]
        result.model = keras.Model(graph.inputs, outputs, name="stack")
        return result

    def _built(self, graph: Features, split: ArraySplit, held: ArraySplit | None, members: Sequence[Member], data: Data) -> Result:
        built, meta_data = self._build(split, held, data)
        training = self._meta_training
        student = training.private(built, meta_data)
        fitted: Fitted = training.fit(student, meta_data)
        meta = training.public(student, meta_data)
        heads = detect_head(meta, data.task, meta_data.example(8))
        meta.name = free_name(meta.name, _names(members))
        given = meta(graph.features)
        if isinstance(heads, str) and not keras.tree.is_nested(given):
            outputs = Probabilities(heads)(given)
        else:
            flat, ends = keras.tree.flatten(given), kept_names(members[0], [None] * len(keras.tree.flatten(given)))
            triples = zip(flat, keras.tree.flatten(heads), ends, strict=True)
            outputs = keras.tree.pack_sequence_as(given, [Probabilities(head, name=end)(value) for value, head, end in triples])
        return Result(keras.Model(graph.inputs, outputs, name="stack"), fitted.history, notes=list(fitted.notes))

    def _build(self, split: ArraySplit, held: ArraySplit | None, data: Data) -> tuple[keras.Model, Data]:
        """The meta-model, not trained, and its data."""
        assert not isinstance(self.meta, str)
        meta_data = data.with_splits(train=split, validation=held, test=None)
        built = self.meta(meta_data)
        check_call("Stack, made by the builder `meta`", built, meta_data)
        try:
            self._meta_training.check(built, meta_data)
        except ValueError as error:
            raise ValueError(f"`meta`: the model that the builder made does not fit the stacked predictions. {error}") from error
        return built, meta_data


def _names(members: Sequence[Member]) -> set[str]:
    return {"side_by_side", *(member.model.name for member in members)}


def _figures(parts: Sequence[Part], data: Data) -> dict[str, float]:
    """Accuracy and log loss, or the errors of a regression; for several outputs of each, and the means."""
    found, _ = told(parts, data, table=False)
    return {name: value for name, value in found.items() if name.rpartition("/")[2] in TOLD}


def _of(label: str) -> str:
    return f" of {label!r}" if label else ""
