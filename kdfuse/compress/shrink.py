"""Shrink: remove neurons, filters and attention heads, and rewire what follows."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np

from kdfuse.compress.choice import Sizes, choose_units, name_families
from kdfuse.compress.criteria.names import unit_criterion
from kdfuse.compress.criteria.units import Material, UnitCriterion
from kdfuse.compress.held import zeros_held
from kdfuse.compress.least_squares import reconstruct
from kdfuse.compress.targets import absolute, find_keep
from kdfuse.compress.training import check_afterwards
from kdfuse.data import Data
from kdfuse.fitting.batch_norm import reestimate
from kdfuse.fitting.compiled import carry_compile
from kdfuse.graph.channels import Channels
from kdfuse.graph.constants import remove_constant
from kdfuse.graph.copy import copy_model, is_sequential
from kdfuse.graph.families import Family, families
from kdfuse.graph.follow import describe, follow
from kdfuse.graph.macs import count_macs
from kdfuse.graph.nodes import graph_of
from kdfuse.graph.rebuild import count_parameters, rebuild
from kdfuse.graph.renew import renew
from kdfuse.measure.latency import latency
from kdfuse.settings import choose, settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Train

SCOPES = ("layer", "global")
TARGETS = ("keep", "macs", "parameters", "latency_ms")


@settings
class Shrink(Technique):
    """Remove units (neurons, filters, recurrent units, attention heads) for good, and train what is left.

    What comes back is a plain, smaller model of the same layers. Channels that are added, multiplied or normalized together go
    together, through concatenation, flattening, depthwise and grouped convolutions, nested models and shared layers. Without the training
    it computes what the given model does with the removed channels' outgoing weights set to 0. Inputs and outputs of the model stay, and so
    does what cannot be followed: units behind layer or group normalization over several channels, whose statistics would change, and
    around layers of other kinds. The table `shrink` of the report tells of each layer, its notes tell what stayed.

    One of `keep`, `macs`, `parameters` and `latency_ms` says how far to go; `Shrink()` is `keep=0.5`.

    Attributes:
        keep: share of units to keep, in (0, 1). Or `nonzero`: only units go that no weight reads, or that are constant because all of their
            own weights are 0, whose constant is added to the next biases: the model computes the same.
        macs: multiply-accumulates of one sample at most: a count, or as a float up to 1 a share of the given model's.
        parameters: likewise.
        latency_ms: median milliseconds for one sample at most, as measured on this machine.
        criterion: which units go: a criterion such as `Taylor(rows=256)`, or its name: `l1`, `l2`, `batch_norm_scale`, `activation`,
            `apoz`, `taylor`, `random`.
        training: how to train after each step: `Train`, `Distill` or another trainer. `auto` is `Train()`, and none for `nonzero`. None
            for none: then BatchNorm statistics are measured again on training rows, except with `reconstruct`, which fits to those given.
        scope: `layer` keeps the same share of each layer, `global` compares the scores of all layers.
        round_to: layers keep multiples of it where they have as many; 8 suits most hardware.
        steps: in how many steps to go there, each with its own training.
        protect: names of layers whose units stay.
        reconstruct: whether the next layers' weights are fitted by least squares to what they gave before, on training rows.
        control: also trains the same small model from new random weights, under the same training as many times, and reports the
            difference.
    """

    keep: float | str | None = None
    macs: float | None = None
    parameters: float | None = None
    latency_ms: float | None = None
    criterion: str | UnitCriterion = "l2"
    training: Any = "auto"
    scope: str = "layer"
    round_to: int = 1
    steps: int = 1
    protect: tuple[str, ...] = ()
    reconstruct: bool = False
    control: bool = False

    row: ClassVar[str] = "model"

    def __post_init__(self) -> None:
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"`{given[1]}`: expected one of {', '.join(TARGETS)}. Received: {' and '.join(given)}. Leave out all but one.")
        if isinstance(self.keep, str):
            choose("keep", self.keep, ("nonzero",))
        elif self.keep is not None:
            _number("keep", self.keep, "a share above 0 and below 1, or 'nonzero'", below=1)
        for name in TARGETS[1:]:
            if getattr(self, name) is not None:
                _number(name, getattr(self, name), "a number above 0")
        unit_criterion(self.criterion)
        choose("scope", self.scope, SCOPES)
        for name in ("round_to", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"`{name}`: expected an integer of at least 1. Received: {name}={value!r}.")
        if isinstance(self.protect, str) or not all(isinstance(name, str) for name in self.protect):
            raise TypeError(f"`protect`: expected a list of names of layers, such as ['conv1']. Received: {self.protect!r}.")
        if not isinstance(self.reconstruct, bool):
            raise ValueError(f"`reconstruct`: expected True or False. Received: reconstruct={self.reconstruct!r}.")
        check_afterwards(self._trainer, self.control)
        if self.keep == "nonzero" and (self.steps > 1 or self.reconstruct):
            raise ValueError(
                "`keep`: 'nonzero' removes without loss, in one step. Received: `steps` or `reconstruct` beside it. Leave them out."
            )

    @property
    def _trainer(self) -> Any:
        if self.training == "auto":
            return None if self.keep == "nonzero" else Train()
        return self.training

    def check(self, model: keras.Model, data: Data) -> None:
        given, unbuilt = model, is_sequential(model) and graph_of(model) is None
        model = copy_model(model, data.example(2)) if unbuilt else model
        channels = follow(model, self.protect)
        (self._trainer or Train()).check(given, data)
        if self.keep != "nonzero" and not any(len(family.roots) > 1 for family in families(channels)):
            why = " ".join(_told(channels)) or "Its layers are of kinds whose units are not followed. Shrink what it was made from."
            raise ValueError(f"`model`: {model.name!r} has no unit that may go. {why}")
        if self.parameters is not None:
            absolute("parameters", self.parameters, count_parameters(model, channels, []))
        if self.macs is not None:
            absolute("macs", self.macs, _macs(model, data))
        if not data.labelled and unit_criterion(self.criterion).needs_labels:
            raise ValueError(f"`criterion`: {self.criterion!r} needs labels, and the training rows have none. Give 'activation' or 'l2'.")

    def apply(self, model: keras.Model, data: Data) -> Result:
        trainer, plain = self._trainer, self._trainer or Train()
        current = plain.public(plain.private(model, data), data)
        model = copy_model(current)  # as it was given, and built
        result = Result(current, baselines={"before": model})
        first = describe(follow(current, self.protect))
        sizes = dict(_sizes(families(follow(current, self.protect))))
        before = self._value(current, data)
        for step in range(1, self.steps + 1):
            if self.keep == "nonzero":
                small = remove_constant(current, self.protect)
            else:
                small = self._smaller(current, data, step / self.steps, before, sizes)
            carry_compile(current, small)
            student = plain.private(small, data)
            if trainer is not None:
                with zeros_held(student, result.notes):
                    fitted = trainer.fit(student, data)
                for name, curve in fitted.history.items():
                    result.history.setdefault(name, []).extend(curve)
                result.notes += [note for note in fitted.notes if note not in result.notes]
            elif self.keep != "nonzero" and not self.reconstruct and reestimate(student, data):
                result.notes.append("The statistics of BatchNorm layers were measured again.")
            current = plain.public(student, data)
        result.model = current
        self._tell(result, model, data, first)
        result.heads = dict.fromkeys(("model", "before", "control"), getattr(plain, "head", "auto"))
        if self.control:
            fresh = renew(current, seed=1, example=data.example(2))
            carry_compile(current, fresh)
            for _ in range(self.steps):
                fresh, _ = trainer(fresh, data, name="control")
            result.baselines["control"] = fresh
        return result

    def _smaller(self, model: keras.Model, data: Data, way: float, before: float, sizes: Sizes) -> keras.Model:
        """The model after one step: `way` is the part of the whole way there, 1 at the end."""
        channels = follow(model, self.protect)
        found = families(channels)
        scores = unit_criterion(self.criterion).scores(Material(model, channels, data))

        def gone(keep: float) -> list[int]:
            return choose_units(found, scores, keep, scope=self.scope, round_to=self.round_to, sizes=sizes)

        target, value = self._target
        if target == "keep":
            removed = gone(value**way)
        else:
            wanted = absolute(target, value, before)
            removed = gone(find_keep(target, self._valued(model, channels, data, gone), before * (wanted / before) ** way))
        made, twins = rebuild(model, channels, removed)
        if self.reconstruct:
            reconstruct(model, made, channels, twins, removed, data)
        return made

    @property
    def _target(self) -> tuple[str, Any]:
        name = next((name for name in TARGETS if getattr(self, name) is not None), "keep")
        return name, 0.5 if getattr(self, name) is None else getattr(self, name)

    def _valued(self, model: keras.Model, channels: Channels, data: Data, gone: Callable[[float], list[int]]) -> Callable[[float], float]:
        def value_of(keep: float) -> float:
            if self.parameters is not None:
                return count_parameters(model, channels, gone(keep))
            return self._value(rebuild(model, channels, gone(keep)).model, data)

        return value_of

    def _value(self, model: keras.Model, data: Data) -> float:
        if self.latency_ms is not None:
            return latency(model, data.example(1))["latency/p50_ms"]
        return _macs(model, data) if self.macs is not None else float(sum(math.prod(weight.shape) for weight in model.weights))

    def _tell(self, result: Result, model: keras.Model, data: Data, first: list[dict[str, Any]]) -> None:
        left = {(row["layer"], row["kind"]): row["units"] for row in describe(follow(result.model))}
        rows = [{**row, "kept": left.get((row["layer"], row["kind"])) or _own_size(result.model, row)} for row in first]
        result.tables["shrink"] = [{name: row[name] for name in ("layer", "kind", "units", "kept", "protected")} for row in rows]
        result.metrics["shrink/units"] = sum(row["kept"] for row in rows) / max(1, sum(row["units"] for row in rows))
        sizes = [sum(math.prod(weight.shape) for weight in one.weights) for one in (result.model, model)]
        result.metrics["shrink/parameters"] = sizes[0] / sizes[1]
        costs = [count_macs(one, data.example(2)) for one in (result.model, model)]
        if costs[0] and costs[1]:
            result.metrics["shrink/macs"] = costs[0] / costs[1]
        result.notes += _told(follow(model, self.protect))
        if sizes[0] == sizes[1]:
            result.notes.append("No unit was removed.")


def _own_size(model: keras.Model, row: dict[str, Any]) -> int:
    """The units of a layer that passes on the channels of another by now."""
    name = row["layer"].rpartition("/")[2]
    found = next((layer for layer in model._flatten_layers() if layer.name == name), None)
    return int(getattr(found, "filters", None) or getattr(found, "units", None) or row["units"])


def _told(channels: Channels) -> list[str]:
    """What stays and why, a sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in describe(channels):
        if row["protected"]:
            reasons.setdefault(row["protected"], []).append(repr(row["layer"]))
    return [f"All or some units of {', '.join(names)} stay: {reason}." for reason, names in reasons.items()]


def _sizes(found: list[Family]) -> list[tuple[Any, int]]:
    return [(name, len(family.roots)) for name, family in zip(name_families(found), found, strict=True)]


def _macs(model: keras.Model, data: Data) -> float:
    macs = count_macs(model, data.example(2))
    if macs is None:
        raise ValueError("`macs`: the multiply-accumulates of this model cannot be told. Give `parameters` or `keep`.")
    return float(macs)


def _number(name: str, value: Any, expected: str, below: float = math.inf) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 < value < below:
        raise ValueError(f"`{name}`: expected {expected}. Received: {name}={value!r}.")
