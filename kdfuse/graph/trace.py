"""Watch a model while it is called: which layers ran, on what, and what they gave."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import keras


@dataclasses.dataclass(eq=False)
class Call:
    """One call of one layer, or of one operation of a functional graph.

    Attributes:
        layer: what was called.
        args: its positional arguments.
        kwargs: its other arguments.
        outputs: what it returned.
        parent: the call inside which it happened, or None.
    """

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any = None
    parent: "Call | None" = None


@contextlib.contextmanager
def watching(model: keras.Model) -> Iterator[list[Call]]:
    """Inside, the calls of the model's layers and operations are recorded; the model is left as it was.

    Yields:
        The list that grows, in the order in which the calls end, so an inner layer comes before the one that holds it.
    """
    calls: list[Call] = []
    stack: list[Call] = []
    watched: list[tuple[Any, Any]] = []

    def watch(layer: Any) -> None:
        original = layer.call

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            entry = Call(layer, args, kwargs, parent=stack[-1] if stack else None)
            stack.append(entry)
            try:
                entry.outputs = original(*args, **kwargs)
            finally:
                stack.pop()
            calls.append(entry)
            return entry.outputs

        watched.append((layer, vars(layer).get("call")))
        vars(layer)["call"] = call

    try:
        for part in _parts(model):
            watch(part)
        yield calls
    finally:
        for layer, before in watched:
            if before is None:
                vars(layer).pop("call", None)
            else:
                vars(layer)["call"] = before


def layer_calls(model: keras.Model, example: Any) -> tuple[Any, list[Call]]:
    """Call `model` on `example` in inference mode and record the calls.

    Args:
        model: any model; an unbuilt one is built.
        example: a batch of inputs.

    Returns:
        The outputs and the calls.
    """
    if not model.built:
        model(example)
    with watching(model) as calls:
        outputs = model(example, training=False)
    return outputs, calls


def _parts(model: keras.Model) -> list[Any]:
    found: dict[int, Any] = {}
    for part in model._flatten_layers():
        found[id(part)] = part
        for operation in getattr(part, "_operations", None) or []:
            found.setdefault(id(operation), operation)
    return list(found.values())
