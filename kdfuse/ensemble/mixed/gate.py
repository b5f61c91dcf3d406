"""Gate: a network that says for each row how far to trust each member."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.arrays import leaves
from kdfuse.calls import check_call
from kdfuse.data import Data
from kdfuse.ensemble.ensemble import Ensemble, beside
from kdfuse.ensemble.grown import seed_of
from kdfuse.ensemble.joined import inputs_for, outputs_of
from kdfuse.ensemble.masks import is_masked
from kdfuse.ensemble.members import Member, free_name, kept_names, take
from kdfuse.ensemble.mixed.gating import GatedSum, Inference, TopKGate, variation
from kdfuse.ensemble.mixed.side_by_side import SideBySide
from kdfuse.ensemble.parallel.training import check_training
from kdfuse.ensemble.values import Logits
from kdfuse.graph.heads import detect_head
from kdfuse.measure.predict import one_pass
from kdfuse.settings import choose, settings
from kdfuse.splits import ArraySplit
from kdfuse.technique import Result
from kdfuse.train import Train, Trainer

MODES = ("frozen", "live")
POOLING = {3: keras.layers.GlobalAveragePooling1D, 4: keras.layers.GlobalAveragePooling2D, 5: keras.layers.GlobalAveragePooling3D}
Builder = Callable[[Data], keras.Model]


@settings
class Gate(Ensemble):
    """Weigh the members row by row: a mixture of experts, whose gating network is trained on the labels.

    The result gives the sum of the members' probabilities (of a regression their values), each times its weight. Every member runs on
    every row, also one of weight 0: `top_k` makes them specialise, not the model cheaper. The table `gate` has the mean weight of
    each member and its load on the validation rows (of training, where there are none): the share of rows that it answers, without
    `top_k` of those where it has the largest weight. `gate/importance_variation` and `gate/load_variation` are the squared coefficients of
    variation of both, 0 where all members bear the same; `gate/effective_members` is how many a row listens to, the exponential of the
    entropy of its weights. Jacobs et al., 1991, "Adaptive Mixtures of Local Experts"; Shazeer et al., 2017 (arXiv 1701.06538).

    Attributes:
        top_k: how many members each row has, from 2 (of one the weight would always be 1, and the gate would learn nothing) to all
            of them; None for all.
        gate: None for one Dense layer on the inputs, flat (with open sizes their means over these); or a builder, called on data
            with the inputs of yours and the members as classes: `kdfuse.models.convnet`.
        members: `"frozen"`: they stay as they are, in inference mode; `"live"`: they are trained along, from the weights given, but
            for their layers that are not trainable.
        balance: what uneven use of the members costs in training, from 0: the coefficient of Shazeer's importance loss.
        training: how the gate is trained. Frozen members answer each row once, before the first epoch, where `training` is a
            `Train` without `augment`, the data is arrays and no member masks steps.
    """

    top_k: int | None = None
    gate: Builder | None = None
    members: str = "frozen"
    balance: float = 0.01
    training: Trainer = Train()

    def __post_init__(self) -> None:
        choose("members", self.members, MODES)
        check_training(self.training)
        if self.top_k is not None and (isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 2):
            raise ValueError(
                f"`top_k`: expected an integer of at least 2, or None. Received: {self.top_k!r}. With one member a row its weight is "
                "always 1, and no gradient reaches the gate."
            )
        if self.gate is not None and (not callable(self.gate) or isinstance(self.gate, keras.Layer)):
            raise TypeError(f"`gate`: expected a builder such as kdfuse.models.mlp, or None. Received: {self.gate!r}.")
        if isinstance(self.balance, bool) or not isinstance(self.balance, int | float) or not 0 <= self.balance < float("inf"):
            raise ValueError(f"`balance`: expected a number of at least 0. Received: {self.balance!r}.")

    def check(self, model: Sequence[keras.Model], data: Data) -> None:
        super().check(model, data)
        if self.top_k is not None and self.top_k > len(model):
            raise ValueError(f"`top_k`: expected at most {len(model)}, the number of members. Received: {self.top_k}.")
        members = take(model, data)
        self.training.check(gated(members, self._gate(members, data), data, self.members), data)  # type: ignore[attr-defined]

    def apply(self, model: Sequence[keras.Model], data: Data) -> Result:
        members, frozen = take(model, data), self.members == "frozen"
        # Rows of predictions have no mask.
        masked = any(is_masked(member.outputs) for member in members)
        once = frozen and not masked and predicts_once(self.training, data)
        rows = ahead(members, data) if once else data
        student = self.training.private(gated(members, self._gate(members, data), data, "ahead" if once else self.members), rows)
        for layer in student.layers:
            if isinstance(layer, Inference):
                layer.trainable = False
        fitted = self.training.fit(student, rows)
        made = self.training.public(student, rows)
        gate = made.get_layer(_gate_name(members))
        if frozen:
            made = gated(members, gate, data)
        result = Result(made, fitted.history, notes=list(fitted.notes), baselines=beside(model))
        split = data.validation if data.validation is not None else data.train
        self._tell(result, one_pass(gate, split).outputs, members)
        return result

    def _gate(self, members: Sequence[Member], data: Data) -> keras.Model:
        """The gating network, not trained: from inputs to weights `[rows, members]`."""
        inputs = inputs_for([member.model for member in members], data)
        logits = self._logits(inputs, len(members), data) if self.gate is None else self._built(inputs, members, data)
        weights = TopKGate(self.top_k, self.balance, name="weights")(logits)
        return keras.Model(inputs, weights, name=_gate_name(members))

    def _logits(self, inputs: Any, count: int, data: Data) -> Any:
        kinds = {np.asarray(rows).dtype.kind for _, rows in leaves(data.example(1))}
        parts = []
        for tensor in keras.tree.flatten(inputs):
            still_open = None in tensor.shape[1:]
            if not kinds <= set("fiub") or (still_open and (len(tensor.shape) not in POOLING or tensor.shape[-1] is None)):
                received = "text" if not kinds <= set("fiub") else f"the shape {tuple(tensor.shape[1:])}"
                raise ValueError(f"`gate`: expected a builder for inputs that are no vector. Received: None, for {received}.")
            parts.append(POOLING[len(tensor.shape)]()(tensor) if still_open else tensor)
        initializer = keras.initializers.GlorotUniform(seed=seed_of(self.training))
        return keras.layers.Dense(count, kernel_initializer=initializer, dtype="float32", name="logits")(SideBySide(name="flat")(parts))

    def _built(self, inputs: Any, members: Sequence[Member], data: Data) -> Any:
        assert self.gate is not None
        count = len(members)
        x = data.train.x if isinstance(data.train, ArraySplit) else data.train.head(256)[0]
        rows = len(next(leaf for _, leaf in leaves(x)))
        # Labels that stand for no more than how many there are.
        asked = Data(train=(x, np.arange(rows) % count), class_names=[member.model.name for member in members], name=data.name)
        built = self.gate(asked)
        check_call("Gate, made by the builder `gate`", built, asked)
        try:
            shape = tuple(built(data.example(2)).shape)
            head = detect_head(built, "classification", data.example(8))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"`gate`: the model that the builder made does not take the inputs of `data`. {error}") from error
        if shape != (2, count):
            raise ValueError(f"`gate`: expected a builder of models with {count} outputs, one for each member. Received: {shape[1:]}.")
        return Logits(head, name="logits_of_gate")(built(inputs))

    def _tell(self, result: Result, weights: np.ndarray, members: Sequence[Member]) -> None:
        weights = weights.astype("float64")
        answers = weights > 0 if self.top_k is not None else np.eye(weights.shape[1])[weights.argmax(axis=1)] > 0
        load = answers.mean(axis=0)
        entropies = -(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=1)
        result.metrics |= {
            "gate/importance_variation": float(variation(weights.sum(axis=0))),
            "gate/load_variation": float(variation(load)),
            "gate/effective_members": float(np.exp(entropies).mean()),
        }
        result.tables["gate"] = [
            {"model": f"{place + 1}: {member.model.name}", "weight": float(weights[:, place].mean()), "load": float(load[place])}
            for place, member in enumerate(members)
        ]


def gated(members: Sequence[Member], gate: keras.Model, data: Data, how: str = "live") -> keras.Model:
    """The mixture as one graph.

    Args:
        members: their models go into the graph, unless they have answered ahead.
        gate: from inputs to weights `[rows, members]`.
        data: for the inputs.
        how: `"live"`; `"frozen"`: the members run in inference mode also while the graph is trained; `"ahead"`: the graph takes what
            they gave as further inputs.
    """
    inputs = inputs_for([member.model for member in members], data)
    structure, weights = members[0].outputs, gate(inputs)
    if how == "ahead":
        columns = [[keras.Input(leaf.shape[1:]) for _ in members] for leaf in keras.tree.flatten(structure)]
    else:
        inside: list[Any] = list(members)
        if how == "frozen":
            inside = [dataclasses.replace(one, model=Inference(one.model, name=f"frozen_{at + 1}")) for at, one in enumerate(members)]
        columns = outputs_of(inside, inputs, "probabilities")
    names = kept_names(members[0], [f"gated_{place + 1}" for place in range(len(columns))])
    flat = [GatedSum(name=name)([weights, *tensors]) for name, tensors in zip(names, columns, strict=True)]
    outputs = keras.tree.pack_sequence_as(structure, flat) if keras.tree.is_nested(structure) else flat[0]
    given = (inputs, tuple(tensor for column in columns for tensor in column)) if how == "ahead" else inputs
    return keras.Model(given, outputs, name="gated")


def predicts_once(training: Any, data: Data) -> bool:
    """Whether frozen members say the same of each row in every epoch, and nothing but the graph reads the inputs."""
    return isinstance(training, Train) and training.augment is None and data.indexable


def ahead(members: Sequence[Member], data: Data) -> Data:
    """The rows together with the probabilities of all members, by output and then by member: inputs of `gated(..., "ahead")`."""
    inputs = inputs_for([member.model for member in members], data)
    graph = keras.Model(inputs, [tensor for column in outputs_of(members, inputs, "probabilities") for tensor in column])
    splits: dict[str, Any] = {"test": None}
    for name in ("train", "validation"):
        split = data.split(name)
        if isinstance(split, ArraySplit):
            splits[name] = ArraySplit((split.x, tuple(one_pass(graph, split).outputs)), split.y, split.sample_weight)
    return data.with_splits(**splits)


def _gate_name(members: Sequence[Member]) -> str:
    return free_name("gate", {member.model.name for member in members})
