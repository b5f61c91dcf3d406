"""Live training: a model that `fit` leaves compiled and traced, so that the next `fit` of the same run goes on at once.

One that ended can begin again for another run of the same structure and settings: other weights, another learning rate.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

_live: contextvars.ContextVar["Live | None"] = contextvars.ContextVar("kdfuse_live", default=None)


@dataclasses.dataclass
class Live:
    """What one training keeps in memory.

    Attributes:
        model: the private copy that is trained.
        fitted: what Keras fits, compiled: `model` itself, or what holds it.
        begun: whether it was trained, so that only a checkpoint tells where it goes on.
    """

    model: keras.Model | None = None
    fitted: keras.Model | None = None
    begun: bool = False
    _optimizer: list[np.ndarray] = dataclasses.field(default_factory=list)

    @contextlib.contextmanager
    def going(self) -> Iterator[None]:
        """Inside the block `Train.fit` keeps what it compiled here, and takes it from here where it trains the same model again."""
        token = _live.set(self)
        try:
            yield
        finally:
            _live.reset(token)

    def begin_again(self, weights: Sequence[np.ndarray]) -> None:
        """Put back the optimizer, and give the model other weights: it is as it was when it was compiled."""
        assert self.model is not None and self.fitted is not None
        self.model.set_weights(weights)
        for variable, value in zip(self.fitted.optimizer.variables, self._optimizer, strict=True):
            variable.assign(value)
        self.begun = False

    def again(self, rate: Any) -> keras.Model:
        """What `fit` goes on with; where it begins again, at another learning rate. A schedule is in the graph: it stays."""
        assert self.fitted is not None
        if not self.begun and isinstance(rate, float):
            self.fitted.optimizer.learning_rate = rate
        return self.fitted


def taken(model: keras.Model) -> Live | None:
    """The live training of `model`, where there is one."""
    live = _live.get()
    return live if live is not None and live.fitted is not None and live.model is model else None


def compiled(fitted: keras.Model) -> None:
    """Remember the optimizer as it is before the first step, where somebody wants to begin again."""
    live = _live.get()
    if live is not None and fitted.optimizer.built:
        live._optimizer = [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in fitted.optimizer.variables]


def keep(model: keras.Model, fitted: keras.Model) -> None:
    """Keep what was trained for `model`, where somebody wants it."""
    live = _live.get()
    if live is not None:
        live.model, live.fitted, live.begun = model, fitted, True
