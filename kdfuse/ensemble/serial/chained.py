"""Chained: models one after another, each of which also gets what the one before says."""

from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.ensemble.ensemble import Ensemble, beside
from kdfuse.ensemble.members import check_members
from kdfuse.ensemble.parallel.training import check_training
from kdfuse.ensemble.serial.link import Stage, linked, takes_more
from kdfuse.ensemble.serial.several import Several, several
from kdfuse.fitting.compiled import carry_compile
from kdfuse.graph.copy import copy_model
from kdfuse.report import Report
from kdfuse.settings import settings
from kdfuse.technique import Result
from kdfuse.train import Train, Trainer


@settings
class Chained(Ensemble):
    """Chain models: each gets the inputs and what the one before says, and is trained on its own data where several are given.

    A model with one input more than the data gets the predictions there (in a dict of inputs under the name that the data lack, else as
    its last one). Any other answers as it does, plus a linear map of the predictions that begins at zero: probabilities are added to its
    logits, values to its values. So a chain begins as its last model, and gives what that gives: a softmax stays a softmax. Of models
    with the same outputs, each output hears its own; else each hears all. The models before stay as they are, and run without dropout,
    while one is trained. Every stage is a child run.

    Called with as many data sets as models, each stage has its own rows, and may have its own labels, such as coarse ones first; the last
    one's validation and test splits judge the whole. Called with one, all stages share it. Read et al., 2009, "Classifier Chains for
    Multi-label Classification", where a model hears all those before it; here it hears the last of them, which heard the others.

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
            data: one `Data`, or a list with one for each model, all with the inputs of the last one.
            name: of the run.
        """
        if isinstance(data, list | tuple):
            count = len(model) if isinstance(model, list | tuple) else 0
            if not data or len(data) != count or not all(isinstance(one, Data) for one in data):
                raise ValueError(
                    f"`data` of Chained: expected one kdfuse.Data for each of {count} models. Received: {len(data)}: {data!r}."
                )
            data = several(data)
        return super().__call__(model, data, name=name)

    def check(self, model: Sequence[keras.Model], data: Data) -> None:
        if len(model) < 2:
            raise ValueError(f"`model` of Chained: expected 2 or more models, such as [a, b]. Received: {len(model)}.")
        if takes_more(model[0], data):
            raise ValueError(f"`model` of Chained: the first model has nobody before it. Received: {len(model[0].inputs)} inputs.")
        stages = _stages(model, data)
        for place, stage in enumerate(stages):
            if stage.data.input_shape != data.input_shape:
                raise ValueError(
                    f"`data` of Chained: expected data sets with the inputs of the last one, {data.input_shape}. "
                    f"Received: {stage.data.input_shape} in data set {place + 1}."
                )
        if isinstance(data, Several):
            for place, stage in enumerate(stages):
                _check_fits(stage, place)
        else:
            check_members("Chained", [one for one in model if not takes_more(one, data)], data, least=1)
        made = model[0]
        for place, stage in enumerate(stages):
            if place:
                made = linked(Stage(made, stages[place - 1].data), stage, place + 1)
            if place or not self.pretrained:
                self.training.check(made, stage.data)  # type: ignore[attr-defined]

    def apply(self, model: Sequence[keras.Model], data: Data) -> Result:
        stages, training = _stages(model, data), self.training
        call: Any = training
        made = copy_model(model[0], data.example(2)) if self.pretrained else call(model[0], stages[0].data, name="stage 1")[0]
        models = [made]
        for number, stage in enumerate(stages[1:], start=2):
            before = Stage(made, stages[number - 2].data)
            joined = linked(before, stage, number, frozen=not self.finetune)
            carry_compile(stage.model, joined)
            made, _ = call(joined, stage.data, name=f"stage {number}")
            if not self.finetune:
                made = _plain(made, linked(before, stage, number))
            models.append(made)
        made.name = "chained"
        alike = [place for place, stage in enumerate(stages[:-1]) if (stage.data.task, stage.data.classes) == (data.task, data.classes)]
        every = list(beside(models, [one.name for one in model]).items())
        result = Result(made, baselines=dict(every[place] for place in alike))
        if alike:
            result.notes.append(f"{', '.join(result.baselines)}: the chain up to that model.")
        if len(alike) < len(stages) - 1:
            result.notes.append("Stages with other labels than the last one's are measured in their child runs alone.")
        return result


def _plain(trained: keras.Model, made: keras.Model) -> keras.Model:
    """`made`, which is `trained` with nothing frozen in it, with its weights and compiled as it is."""
    for layer in made.layers:
        if layer.weights and not layer.name.startswith("before_"):
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    carry_compile(trained, made)
    return made


def _check_fits(stage: Stage, place: int) -> None:
    if takes_more(stage.model, stage.data):
        return
    try:
        check_members("Chained", [stage.model], stage.data, least=1)
    except ValueError as error:
        raise ValueError(f"`data` of Chained: model {place + 1} does not fit data set {place + 1}. {error}") from error


def _stages(models: Sequence[keras.Model], data: Data) -> list[Stage]:
    every = data.stages if isinstance(data, Several) else [data] * len(models)
    return [Stage(model, own) for model, own in zip(models, every, strict=True)]
