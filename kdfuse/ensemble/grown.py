"""What grows its members itself: one model in, trained several times over, each time from other weights or on other rows."""

from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.ensemble import Ensemble
from kdfuse.graph.renew import renew
from kdfuse.settings import flatten, replace, settings
from kdfuse.splits import ArraySplit


@settings
class Grown(Ensemble):
    """An ensemble of copies of one model. A subclass writes `apply`."""

    takes_models = False

    def check(self, model: keras.Model, data: Data) -> None:
        training = getattr(self, "training", None)
        if training is not None:
            training.check(model, data)


def born(model: keras.Model, data: Data, seed: int, place: int) -> keras.Model:
    """The architecture of `model` with new weights, a function of (seed, place)."""
    return renew(model, int(np.random.default_rng([seed, place]).integers(2**31)), data.example(2))


def seeds_of(training: Any) -> list[str]:
    """The names of the settings that are seeds, also of what is inside."""
    flat = flatten(training, leaf=lambda value: "model" if isinstance(value, keras.Model) else None)
    return [name for name, value in flat.items() if name.rpartition("__")[2] == "seed" and type(value) is int]


def seed_of(training: Any) -> int:
    """The first seed among the settings; 0 where there is none."""
    names = seeds_of(training)
    return int(flatten(training, leaf=_leaf)[names[0]]) if names else 0


def at_place(training: Any, place: int) -> Any:
    """The training with other seeds, a function of its own seed and the place."""
    flat = flatten(training, leaf=_leaf)
    return replace(training, {name: flat[name] + 1000 * place for name in seeds_of(training)})


def need_arrays(owner: str, data: Data, why: str) -> ArraySplit:
    """The training split as arrays.

    Raises:
        ValueError: it is a stream.
    """
    if not isinstance(data.train, ArraySplit):
        raise ValueError(f"`data` of {owner}: expected arrays in the training split, for {why}. Received: a stream.")
    return data.train


def check_count(argument: str, value: Any, least: int) -> None:
    """Raise unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{argument}`: expected an integer of at least {least}. Received: {argument}={value!r}.")


def _leaf(value: Any) -> str | None:
    return "model" if isinstance(value, keras.Model) else None
