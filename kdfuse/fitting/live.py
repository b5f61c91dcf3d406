"""Live training: a model that `fit` leaves compiled and traced, so that the next `fit` of the same run goes on at once."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import keras

_live: contextvars.ContextVar["Live | None"] = contextvars.ContextVar("kdfuse_live", default=None)


@dataclasses.dataclass
class Live:
    """What one paused training keeps in memory.

    Attributes:
        model: the private copy that is trained.
        fitted: what Keras fits, compiled: `model` itself, or what holds it.
    """

    model: keras.Model | None = None
    fitted: keras.Model | None = None

    @contextlib.contextmanager
    def going(self) -> Iterator[None]:
        """Inside the block `Train.fit` keeps what it compiled here, and takes it from here where it trains the same model again."""
        token = _live.set(self)
        try:
            yield
        finally:
            _live.reset(token)


def taken(model: keras.Model) -> keras.Model | None:
    """What was compiled for `model` in an earlier `fit`, where there is a live one."""
    live = _live.get()
    return live.fitted if live is not None and live.model is model else None


def keep(model: keras.Model, fitted: keras.Model) -> None:
    """Keep what was compiled for `model`, where somebody wants it."""
    live = _live.get()
    if live is not None:
        live.model, live.fitted = model, fitted
