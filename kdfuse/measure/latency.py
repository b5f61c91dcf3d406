"""Latency: how long one sample takes."""

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.measure.predict import filled, fixed_batch

WARM_UP, SECONDS = 3, 0.5

_off: contextvars.ContextVar[bool] = contextvars.ContextVar("kdfuse_untimed", default=False)


@contextlib.contextmanager
def untimed() -> Iterator[None]:
    """Inside, `latency` times nothing and gives nothing: for models that are measured many at a time."""
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)


def latency(function: Callable[[Any], Any], example: Any, repeats: int = 200) -> dict[str, float]:
    """How long `function` takes for one sample, until its result is a NumPy array on the host.

    The conversion waits for a device that works on its own (a GPU); its copying of the result is part of the figure.
    After a warm-up it is called `repeats` times, or for half a second if that is over sooner (3 times at least).

    Args:
        function: a model or any callable of one batch. A Keras model runs through one `tf.function`, traced before. Of what has a
            method `prepare(inputs)`, as a `LiteModel` has, the call it gives is timed: the interpreter alone.
        example: a batch of inputs; its first row is used. A Keras model with a fixed batch size gets that many.
        repeats: calls at most.

    Returns:
        `latency/p50_ms` and `latency/p95_ms`, in milliseconds; nothing inside `untimed`.
    """
    if repeats < 1:
        raise ValueError(f"`repeats`: expected at least 1. Received: {repeats}.")
    if _off.get():
        return {}
    is_model = isinstance(function, keras.Model)
    count = (fixed_batch(function) if isinstance(function, keras.Model) else None) or 1
    row = keras.tree.map_structure(lambda value: _first_rows(value, count, tensor=is_model), example)
    model_call = compiled(function) if is_model else function
    call = function.prepare(row) if hasattr(function, "prepare") else lambda: _to_host(model_call(row))
    for _ in range(WARM_UP):
        call()
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(taken) < repeats and (len(taken) < 3 or time.perf_counter() < end):
        start = time.perf_counter()
        call()
        taken.append((time.perf_counter() - start) * 1000)
    middle, high = np.percentile(taken, [50, 95])
    return {"latency/p50_ms": float(middle), "latency/p95_ms": float(high)}


def compiled(model: keras.Model) -> Callable[[Any], Any]:
    """`model` in inference mode as one `tf.function` of its own, so that the model keeps no trace of it."""
    return tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True, autograph=False)  # type: ignore[no-any-return]


def _first_rows(value: Any, count: int, tensor: bool) -> Any:
    row = filled(value[:count], count)
    return tf.convert_to_tensor(row) if tensor else row


def _to_host(outputs: Any) -> None:
    for output in keras.tree.flatten(outputs):
        np.asarray(output.numpy() if hasattr(output, "numpy") else output)
