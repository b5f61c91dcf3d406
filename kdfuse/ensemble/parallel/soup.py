"""Soup: the mean of the weights of several fine-tuned models, which is one model."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.calibrate import need_validation
from kdfuse.ensemble.ensemble import Ensemble, beside
from kdfuse.ensemble.parallel.training import check_training, innermost
from kdfuse.fitting.batch_norm import reestimate
from kdfuse.graph.heads import detect_head
from kdfuse.measure.measure import parts_of, told
from kdfuse.measure.predict import one_pass
from kdfuse.settings import choose, settings
from kdfuse.technique import Result
from kdfuse.train import Fitted, Train, Trainer

WAYS = ("uniform", "greedy")
SLACK, FACTOR, ROWS = 0.05, 1.25, 8192
IGNORED = ("name", "trainable", "dtype", "seed", "rate", "stddev", "momentum")
"""Settings of a layer that may differ between branches: they change the training, not the function."""


@settings
class Soup(Ensemble):
    """Average the weights of models of one structure: an ensemble's gain at one model's cost, where they share a start.

    Called as `model, report = Soup()([a, b, c], data)`. The models must be branches of one trained model, such as the same one
    fine-tuned under several settings or seeds: between models from independent starts the loss is high, and their mean is no better
    than chance. That is seen on the validation split, and refused. BatchNorm statistics are measured anew on training rows (Izmailov et
    al., 2018, arXiv 1803.05407).

    Wortsman et al., 2022, "Model soups" (arXiv 2203.05482).

    Attributes:
        how: `uniform`: the mean of all; `greedy`: beginning with the best on validation, each next best one joins if the mean does not
            get worse on validation (the paper's recipe 1).
        training: how the mean is trained on, `Train(...)` or `Distill(teacher)`; None for not at all.
    """

    how: str = "uniform"
    training: Trainer | None = None

    row = "soup"

    def __post_init__(self) -> None:
        choose("how", self.how, WAYS)
        if self.training is not None:
            check_training(self.training)

    def check(self, model: Sequence[keras.Model], data: Data) -> None:
        super().check(model, data)
        need_validation("Soup", data, "a mean of weights that does not work is found out on it")
        check_structures(model)
        if self.training is not None:
            self.training.check(model[0], data)  # type: ignore[attr-defined]

    def apply(self, model: Sequence[keras.Model], data: Data) -> Result:
        training = self.training if self.training is not None else Train()
        soup = training.private(model[0], data)
        single = [scores(one, data) for one in model]
        chosen = list(range(len(model)))
        tried: list[dict[str, Any]] = []
        if self.how == "greedy":
            chosen, tried = self._greedy(soup, model, single, data)
        count = mix(soup, [model[place] for place in chosen], data)
        check_collapse([single[place] for place in chosen], scores(soup, data))
        fitted = Fitted({}, []) if self.training is None else self.training.fit(soup, data)
        result = Result(training.public(soup, data), fitted.history, baselines=beside(model))
        result.tables["soup"] = tried or [{"model": f"{place + 1}: {one.name}", "taken": True} for place, one in enumerate(model)]
        result.metrics["soup/members"] = float(len(chosen))
        result.notes = [f"The mean of the weights of {len(chosen)} of {len(model)} models.", *fitted.notes]
        if len(chosen) == 1:
            result.notes.append("No other model made the best one better: the soup is that model.")
        if count:
            result.notes.append(f"The statistics of {count} BatchNorm layers were measured anew, those of the members were not.")
        if self.training is not None:
            result.heads = {"model": innermost(training).head}
        return result

    def _greedy(
        self, soup: keras.Model, models: Sequence[keras.Model], single: Sequence[dict[str, float]], data: Data
    ) -> tuple[list[int], list[dict[str, Any]]]:
        order = sorted(range(len(models)), key=lambda place: -overall(single[place]))
        chosen, best, rows = [order[0]], overall(single[order[0]]), []
        soup.set_weights(models[order[0]].get_weights())
        if measure_again(soup, data):  # what statistics alone bring must not count for the next model
            best = max(best, overall(scores(soup, data)))
        for place in order:
            value = overall(single[place])
            if place != order[0]:
                mix(soup, [models[one] for one in [*chosen, place]], data)
                value = overall(scores(soup, data))
                if value >= best:
                    chosen, best = [*chosen, place], value
            rows.append({"model": f"{place + 1}: {models[place].name}", "taken": place in chosen, "validation with it": abs(value)})
        return chosen, rows


def mix(target: keras.Model, models: Sequence[keras.Model], data: Data) -> int:
    """Give `target` the mean of the weights of `models`; how many BatchNorm layers were measured anew on training rows.

    A single model keeps its statistics.
    """
    target.set_weights(mean_weights(models))
    return measure_again(target, data) if len(models) > 1 else 0


def measure_again(model: keras.Model, data: Data) -> int:
    """Measure the statistics of the BatchNorm layers of a private copy on training rows; how many layers there were."""
    return reestimate(model, data, ROWS)


def mean_weights(models: Sequence[keras.Model]) -> list[np.ndarray]:
    """The mean of each weight over models of one structure, in its dtype; of integers those of the first."""
    return [mean_of(weights) for weights in zip(*(one.get_weights() for one in models), strict=True)]


def mean_of(weights: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of arrays of one shape, in their dtype; of integers the first."""
    if weights[0].dtype.kind in "iub":
        return weights[0]
    return np.mean([np.asarray(one, dtype="float64") for one in weights], axis=0).astype(weights[0].dtype)


def scores(model: keras.Model, data: Data) -> dict[str, float]:
    """For each output its accuracy on the validation split, or of a regression its root mean squared error."""
    assert data.validation is not None
    done = one_pass(model, data.validation)
    parts = parts_of(model, done, data, detect_head(model, data.task, data.example(64)))
    figures, _ = told(parts, data, table=False)
    names = [f"{part.label}/{kind}" if part.label else kind for part in parts for kind in ("accuracy", "rmse")]
    return {f"validation/{name}": figures[name] for name in names if name in figures}


def overall(found: dict[str, float]) -> float:
    """One score, the higher the better: the mean accuracy of the outputs, of regressions alone the mean error with a minus."""
    accuracies = [value for name, value in found.items() if name.endswith("accuracy")]
    return float(np.mean(accuracies)) if accuracies else -float(np.mean(list(found.values())))


def check_collapse(members: Sequence[dict[str, float]], soup: dict[str, float]) -> None:
    """Raise `RuntimeError` where the mean is much worse than the worst of its members: 5 points of accuracy, or 1.25 times the error."""
    for name, value in soup.items():
        own = [one[name] for one in members]
        accuracy = name.endswith("accuracy")
        if value < min(own) - SLACK if accuracy else value > max(own) * FACTOR:
            listed = ", ".join(f"{one:.4g}" for one in own)
            raise RuntimeError(
                f"`model` of Soup: the mean of the weights does not work. It has {name}={value:.4g}, and its members {listed}. They do not "
                "share a start: train the branches from one trained model. To combine independent models use kdfuse.Parallel."
            )


def check_structures(models: Sequence[keras.Model]) -> None:
    """Raise unless all models have the same layers in the same order, with weights of the same shapes and dtypes."""
    first = _structure(models[0])
    for place, model in enumerate(models[1:], 2):
        other = _structure(model)
        pairs = zip([*first, *[None] * len(other)], [*other, *[None] * len(first)], strict=True)
        unlike = next((pair for pair in pairs if pair[0] != pair[1]), None)
        if unlike is not None:
            ours, theirs = ("nothing" if one is None else f"{one[0]} {one[1]}" if one[1] else one[0] for one in unlike)
            ours, theirs = (f"{ours} {unlike[0][2]}", f"{theirs} {unlike[1][2]}") if ours == theirs else (ours, theirs)
            raise ValueError(
                f"`model` of Soup: expected models of one structure. Model 1 ({models[0].name!r}) has {ours} where model {place} "
                f"({model.name!r}) has {theirs}. Give branches of the same model, or combine their predictions with kdfuse.Parallel."
            )


def _structure(model: keras.Model) -> list[Any]:
    """For each layer its class, the shapes and dtypes of its own weights, and its plain settings."""
    found = []
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.InputLayer | keras.Model):
            continue
        own = [*layer._trainable_variables, *layer._non_trainable_variables]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                config = layer.get_config()
            except (NotImplementedError, TypeError, ValueError, OSError):
                config = {}
        plain = {key: value for key, value in config.items() if key not in IGNORED and isinstance(value, bool | int | float | str)}
        found.append((type(layer).__name__, [(tuple(one.shape), keras.backend.standardize_dtype(one.dtype)) for one in own], plain))
    return found
