"""Grow: a wider and deeper model that begins with what a trained one computes."""

import math
from typing import Any, ClassVar

import keras
import numpy as np

from kdfuse.compress.criteria.units import check_integers
from kdfuse.compress.training import check_afterwards
from kdfuse.data import Data
from kdfuse.fitting.compiled import carry_compile
from kdfuse.graph.channels import Channels
from kdfuse.graph.copy import copy_model, is_sequential
from kdfuse.graph.deepen import deepen, find_hosts
from kdfuse.graph.follow import describe, follow
from kdfuse.graph.nodes import graph_of
from kdfuse.graph.renew import renew
from kdfuse.graph.widen import draw_copies, widen
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Train


@settings
class Grow(Technique):
    """Make a trained model wider and deeper without changing what it computes, and train what has come of it (Net2Net).

    Wider: units (neurons, filters, recurrent units, attention heads) are copied, and the weights that read them are divided by the number
    of copies. The units are those that `Shrink` can remove, followed in the same way; what cannot be followed stays. Deeper: layers
    that give what they get go behind hidden Dense and Conv layers with a ReLU, their own or one behind normalization or addition; no other
    activation gives the same a second time. The table `grow` of the report tells of each layer, its notes tell what stayed.

    Attributes:
        width: factor by which each layer grows, from 1 (as it is); n units become `width * n`, rounded up. A layer of one unit stays.
        layers: how many identity layers go behind each ReLU, from 0.
        noise: what copies differ by from their originals, so that training can tell them apart: the standard deviation of what is added to
            their incoming weights, as a share of the kernel's deviation, from 0. With 0 the larger model computes exactly the same.
        protect: names of layers whose units stay as many, and behind which no layers go.
        training: how to train afterwards: `Train`, `Distill` or another trainer. `auto` is `Train()`. None for none.
        seed: of the draw of units and of the noise, from 0.
        control: also trains the same larger model from new random weights under the same training, and reports the difference.

    Reference:
        Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016, arXiv:1511.05641.
    """

    width: float = 1.5
    layers: int = 0
    noise: float = 1e-2
    protect: tuple[str, ...] = ()
    training: Any = "auto"
    seed: int = 0
    control: bool = False

    row: ClassVar[str] = "model"

    def __post_init__(self) -> None:
        _number("width", self.width, 1)
        _number("noise", self.noise, 0)
        check_integers(seed=self.seed)
        if isinstance(self.layers, bool) or not isinstance(self.layers, int | np.integer) or self.layers < 0:
            raise ValueError(f"`layers`: expected an integer of at least 0. Received: layers={self.layers!r}.")
        if self.width == 1 and self.layers == 0:
            raise ValueError(
                "`width`: expected more than 1, or `layers` of at least 1. Received: width=1 and layers=0, which grow nothing."
            )
        if isinstance(self.protect, str) or not all(isinstance(name, str) for name in self.protect):
            raise TypeError(f"`protect`: expected a list of names of layers, such as ['conv1']. Received: {self.protect!r}.")
        check_afterwards(self.training, self.control)

    @property
    def _trainer(self) -> Any:
        return Train() if self.training == "auto" else self.training

    def check(self, model: keras.Model, data: Data) -> None:
        unbuilt = is_sequential(model) and graph_of(model) is None
        built = copy_model(model, data.example(2)) if unbuilt else model
        channels = follow(built, self.protect)
        (self._trainer or Train()).check(model, data)
        hosts, others = find_hosts(built, channels, self.protect) if self.layers else ([], [])
        if self.layers and not hosts:
            raise ValueError(
                f"`layers`: expected a model with hidden Dense or Conv layers with a ReLU, behind which an identity layer changes nothing. "
                f"Received: layers={self.layers}, and {model.name!r} has none. {' '.join(_without(others))} Leave out `layers`."
            )
        if not hosts and (draw_copies(channels, self.width) == 1).all():
            why = " ".join(_told(channels)) or "Its layers are of kinds whose units are not followed. Grow what it was made from."
            raise ValueError(f"`model`: {model.name!r} has no layer that may grow. {why}")

    def apply(self, model: keras.Model, data: Data) -> Result:
        trainer, plain = self._trainer, self._trainer or Train()
        model = plain.private(model, data)  # built
        channels = follow(model, self.protect)
        first, notes = describe(channels), _told(channels) if self.width > 1 else []
        large, new = model, list[str]()
        if self.width > 1:
            large = widen(model, channels, draw_copies(channels, self.width, self.seed), self.noise, self.seed).model
        if self.layers:
            hosts, others = find_hosts(large, follow(large), self.protect)
            large, new = deepen(large, hosts, self.layers)
            notes += _without(others)
        carry_compile(model, large)
        result = Result(large, baselines={"before": model}, notes=notes)
        result.tables["grow"] = _rows(first, describe(follow(large)), new)
        student = plain.private(large, data)
        if trainer is not None:
            fitted = trainer.fit(student, data)
            result.history = fitted.history
            result.notes += [note for note in fitted.notes if note not in result.notes]
        result.model = plain.public(student, data)
        result.heads = dict.fromkeys(("model", "before", "control"), getattr(plain, "head", "auto"))
        if self.control:
            fresh = renew(result.model, seed=1, example=data.example(2))
            carry_compile(result.model, fresh)
            result.baselines["control"], _ = trainer(fresh, data, name="control")
        return result


def _rows(first: list[dict[str, Any]], then: list[dict[str, Any]], new: list[str]) -> list[dict[str, Any]]:
    """A row for each layer: how many units it had, 0 for a new one, and has, and why they stayed."""
    before = {(row["layer"], row["kind"]): row for row in first}
    rows = []
    for row in then:
        known = before.get((row["layer"], row["kind"]), {"units": 0, "protected": ""})
        rows.append(
            {name: row[name] for name in ("layer", "kind")}
            | {"units": known["units"], "grown": row["units"], "protected": known["protected"]}
        )
    return rows


def _told(channels: Channels) -> list[str]:
    """What keeps its size and why, a sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in describe(channels):
        if row["protected"]:
            reasons.setdefault(row["protected"], []).append(repr(row["layer"]))
    return [f"All or some units of {', '.join(names)} stay as many: {reason}." for reason, names in reasons.items()]


def _without(paths: list[str]) -> list[str]:
    if not paths:
        return []
    return [f"No layer goes behind {', '.join(map(repr, paths))}: no ReLU follows, and what others give would not stay the same."]


def _number(name: str, value: Any, least: float) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not least <= value < math.inf:
        raise ValueError(f"`{name}`: expected a number of at least {least}. Received: {name}={value!r}.")
