"""Chained: models one after another, each of which also gets what the one before says."""

from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.ensemble.ensemble import Ensemble, beside
from kdfuse.ensemble.joined import inputs_for
from kdfuse.ensemble.members import Member, check_members, take
from kdfuse.ensemble.parallel.training import check_training
from kdfuse.ensemble.serial.adding import Adding
from kdfuse.ensemble.serial.several import Several, several
from kdfuse.ensemble.values import Logits, Probabilities
from kdfuse.graph.copy import copy_model
from kdfuse.report import Report
from kdfuse.settings import settings
from kdfuse.technique import Result
from kdfuse.train import Train, Trainer


@settings
class Chained(Ensemble):
    """Chain models: each gets the inputs and what the one before says, and is trained on its own data where several are given.

    The last one's outputs are the result's. A model with one input more than the data gets the predictions as its last input. Any
    other answers as it does, plus a layer on the predictions that begins at zero: logits are added to its logits, values to its
    values, so that a chain begins as good as its last model. The models before stay as they are while one is trained. Every stage is a
    child run.

    Called with as many data sets as models, each stage has its own, and the last one's validation and test splits judge the whole; called
    with one, all stages share it. Read et al., 2009, "Classifier Chains for Multi-label Classification".

    Attributes:
        training: how each stage is fitted.
        finetune: whether the models before are trained along with each stage.
        pretrained: whether the first model is taken as it is.
    """

    training: Trainer = Train()
    finetune: bool = False
    pretrained: bool = False

    row = "chain"

    def __post_init__(self) -> None:
        check_training(self.training)
        for name in ("finetune", "pretrained"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}`: expected True or False. Received: {getattr(self, name)!r}.")

    def __call__(self, model: Any, data: Any, *, name: str | None = None) -> tuple[Any, Report]:
        """Apply the technique.

        Args:
            model: a list of two or more Keras 3 models.
            data: one `Data`, or a list with one for each model; all with the inputs and outputs of the last one.
            name: of the run.
        """
        if isinstance(data, list | tuple):
            count = len(model) if isinstance(model, list | tuple) else 0
            if len(data) != count or not all(isinstance(one, Data) for one in data):
                raise ValueError(
                    f"`data` of Chained: expected one kdfuse.Data for each of {count} models. Received: {len(data)}: {data!r}."
                )
            data = several(data)
        return super().__call__(model, data, name=name)

    def check(self, model: Sequence[keras.Model], data: Data) -> None:
        plain = [one for one in model if not _takes_more(one, data)]
        if _takes_more(model[0], data):
            raise ValueError(f"`model` of Chained: the first model has nobody before it. Received: {len(model[0].inputs)} inputs.")
        if len(model) < 2:
            raise ValueError(f"`model` of Chained: expected 2 or more models, such as [a, b]. Received: {len(model)}.")
        check_members("Chained", plain, data, least=1)
        for place, own in enumerate(_stages(data, len(model))):
            if own.input_shape != data.input_shape or own.classes != data.classes or own.task != data.task:
                raise ValueError(
                    f"`data` of Chained: expected data sets with the inputs and labels of the last one. Received: in data set {place + 1} "
                    f"inputs {own.input_shape}, classes {own.classes}, task {own.task!r}; in the last {data.input_shape}, {data.classes}, "
                    f"{data.task!r}."
                )
        self.training.check(model[0], _stages(data, len(model))[0])  # type: ignore[attr-defined]
        first = take(model[:1], data)[0]
        for one in model[1:]:
            if _takes_more(one, data):
                _check_last_input(one, first)

    def apply(self, model: Sequence[keras.Model], data: Data) -> Result:
        stages, training = _stages(data, len(model)), self.training
        call: Any = training
        if self.pretrained:
            made = copy_model(model[0], data.example(2))
        else:
            made, _ = call(model[0], stages[0], name="stage 1")
        models = [made]
        for place, one in enumerate(model[1:], start=2):
            joined = chained(made, one, data, f"stage_{place}")
            before = joined.get_layer(f"before_{place}")
            flags = [layer.trainable for layer in before._flatten_layers()]
            if not self.finetune:
                before.trainable = False
            made, _ = call(joined, stages[place - 1], name=f"stage {place}")
            # Frozen while it was trained; now as it was.
            for layer, flag in zip(made.get_layer(f"before_{place}")._flatten_layers(), flags, strict=True):
                layer.trainable = flag
            models.append(made)
        result = Result(made, baselines=beside(models[:-1]))
        result.notes.append(f"The members are the chain up to each of the first {len(models) - 1} models.")
        return result


def chained(before: keras.Model, model: keras.Model, data: Data, name: str) -> keras.Model:
    """One graph of a chain so far and the next model, which gets what the chain says.

    Args:
        before: the chain so far; it is copied.
        model: the next one; it is copied.
        data: for the inputs.
        name: of the model; the chain's copy in it is called `before_...` accordingly.
    """
    number = name.rpartition("_")[2]
    earlier = take([before], data)[0]
    earlier.model.name = f"before_{number}"
    inputs = inputs_for([earlier.model], data)
    heads = _flat_heads(earlier)
    said = [
        Probabilities(head, name=f"said_{number}_{place}")(leaf)
        for place, (leaf, head) in enumerate(zip(keras.tree.flatten(earlier.model(inputs)), heads, strict=True))
    ]
    if _takes_more(model, data):
        copy = copy_model(model)
        copy.name = f"model_{number}"
        return keras.Model(inputs, copy([*keras.tree.flatten(inputs), said[0]]), name=name)
    member = take([model], data)[0]
    member.model.name = f"model_{number}"
    answers = zip(keras.tree.flatten(member.model(inputs)), _flat_heads(member), said, strict=True)
    outputs = [
        Adding(leaf.shape[-1], name=f"adding_{number}_{place}")([Logits(head, name=f"logits_{number}_{place}")(leaf), one])
        for place, (leaf, head, one) in enumerate(answers)
    ]
    nested = keras.tree.is_nested(member.outputs)
    return keras.Model(inputs, keras.tree.pack_sequence_as(member.outputs, outputs) if nested else outputs[0], name=name)


def _takes_more(model: Any, data: Data) -> bool:
    """Whether a model has one input more than the data."""
    if not isinstance(model, keras.Model) or getattr(model, "_functional", True) is None or not getattr(model, "inputs", None):
        return False
    return len(model.inputs) == len(keras.tree.flatten(data.example(1))) + 1


def _check_last_input(model: keras.Model, first: Member) -> None:
    leaves = keras.tree.flatten(first.outputs)
    wanted = tuple(leaves[0].shape[1:])
    if len(leaves) != 1 or tuple(model.inputs[-1].shape[1:]) != wanted:
        raise ValueError(
            f"`model` of Chained: expected the last input of {model.name!r} to take the predictions before it, of shape {wanted}. "
            f"Received: {tuple(model.inputs[-1].shape[1:])}."
        )


def _flat_heads(member: Member) -> list[str]:
    leaves = keras.tree.flatten(member.outputs)
    return [member.head] * len(leaves) if isinstance(member.head, str) else keras.tree.flatten(member.head)


def _stages(data: Data, count: int) -> Sequence[Data]:
    return data.stages if isinstance(data, Several) else [data] * count
