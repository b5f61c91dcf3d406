"""A model of the same architecture with other initial weights."""

import contextlib
import copy
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

from kdfuse.graph.copy import copy_model

Drawn = dict[int, tuple[keras.Variable, np.ndarray]]
_lock = threading.Lock()


def renew(model: keras.Model, seed: int, example: Any = None) -> keras.Model:
    """The architecture of `model` with weights as its initializers draw them anew.

    What is drawn is a function of `seed`, also where an initializer carries a seed of its own. Moving statistics begin
    again. Kept are the layers that are not trainable, and what preprocessing layers have learnt with `adapt`: statistics,
    boundaries, vocabularies.

    Args:
        model: a Functional, Sequential or subclassed model, as in `copy_model`. It is only read.
        seed: from 0.
        example: a batch of inputs; needed for a model that is not built.

    Returns:
        A model of the same class and layer names, not compiled. An initializer that is a function of the user's own and
        draws from a source outside Keras is as random as it is.

    Raises:
        ValueError: the model cannot be copied, is not built and there is no example, or has nothing that is trainable.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"`seed`: expected an integer of at least 0. Received: seed={seed!r}.")
    if isinstance(model, keras.Model) and not model.built and example is None:
        raise ValueError(f"`example`: {model.name!r} is not built, so it has no weights to renew. Give a batch of its inputs.")
    with _lock, _drawing(int(seed)) as drawn:
        made = copy_model(model, example)
    if not made.trainable_variables:
        raise ValueError(f"`model`: {model.name!r} has no trainable weights to renew. Set `trainable = True` on its layers.")
    rng = np.random.default_rng([int(seed), 1])
    for layer in made._flatten_layers():
        # `trainable` of a container is that of the layers inside it, which come on their own.
        if not layer.trainable or hasattr(layer, "adapt"):
            continue
        for variable in [*layer._trainable_variables, *layer._non_trainable_variables]:
            if id(variable) in drawn:
                variable.assign(drawn[id(variable)][1])
        _reseed_settings(layer, rng)
    return made


@contextlib.contextmanager
def _drawing(seed: int) -> Iterator[Drawn]:
    """Inside, variables that this thread makes are drawn from seeds that depend on `seed` and their order alone.

    A layer may make its initializer when it is built, or hold a fixed seed in its code: only where the variable is made
    can all of them be met.

    Yields:
        The variables with the values they began with, by `id`.
    """
    drawn: Drawn = {}
    rng = np.random.default_rng([seed, 0])
    thread, kind = threading.get_ident(), keras.Variable
    draw, begin = kind._initialize_with_initializer, kind._initialize

    def _initialize_with_initializer(self: Any, initializer: Any) -> None:
        draw(self, _reseeded(initializer, rng) if threading.get_ident() == thread else initializer)

    def _initialize(self: Any, value: Any) -> None:
        begin(self, value)
        if threading.get_ident() == thread:
            drawn[id(self)] = (self, np.array(keras.ops.convert_to_numpy(self._value)))

    # What draws without a seed of its own takes it from this thread's generator.
    before = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, keras.random.SeedGenerator(_seed(rng)))
    kind._initialize_with_initializer, kind._initialize = _initialize_with_initializer, _initialize
    try:
        yield drawn
    finally:
        kind._initialize_with_initializer, kind._initialize = draw, begin
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, before)


def _reseeded(initializer: Any, rng: np.random.Generator) -> Any:
    if not (isinstance(initializer, keras.initializers.Initializer) and hasattr(initializer, "seed")):
        return initializer
    other = copy.copy(initializer)
    other.seed = _seed(rng)
    return other


def _reseed_settings(layer: keras.Layer, rng: np.random.Generator) -> None:
    """Seeds that stand in the config: a model made from it must not get the old weights."""
    for value in vars(layer).values():
        if isinstance(value, keras.initializers.Initializer) and getattr(value, "_init_seed", None) is not None:
            value.seed = value._init_seed = _seed(rng)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 2**31))
