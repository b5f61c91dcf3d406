"""Labels as a model takes them: in the order of its outputs, and two classes as no and yes where it has one unit for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import keras

from kdfuse.arrays import leaves, map_leaves
from kdfuse.data import Data

_matched: WeakKeyDictionary[Data, dict[Any, Data]] = WeakKeyDictionary()
"""What was made of a data set before, so that what it keeps (such as its fingerprint) is found once."""


def matched(models: Sequence[Any], data: Data) -> Data:
    """The data as the models take it; itself where that is how it is.

    - Labels by name (a dict) become a tuple in the order of the outputs where a model gives these as a list, as Keras takes them.
    - Two classes by number become the task `binary` where the data found the task by itself and the model has one unit.

    Args:
        models: what is trained or combined; the first that says something of its outputs decides.
        data: with any labels.

    Raises:
        ValueError: the outputs have other names than the labels.
    """
    names = next((found for model in models if (found := _names(model))), []) if isinstance(data.task, Mapping) else []
    if names and sorted(names) != sorted(data.task):
        raise ValueError(
            f"`data` y: expected labels of the outputs {names} of {next(one.name for one in models if _names(one))!r}. Received: "
            f"{sorted(data.task)}. Call the layers that give the outputs so, or give the labels as a tuple in the order of the outputs."
        )
    ordered = _kept(data, tuple(names), lambda: data.in_order(names)) if names else data
    binary = _one_unit(models, ordered) if data.task_found else ()
    if not any(binary):
        return ordered
    places = iter(binary)
    return _kept(ordered, binary, lambda: ordered.with_task(map_leaves(lambda task: "binary" if next(places) else task, ordered.task)))


def _kept(data: Data, key: Any, make: Callable[[], Data]) -> Data:
    made = _matched.setdefault(data, {})  # never `data` itself: a value that holds its key keeps it for ever
    return made[key] if key in made else made.setdefault(key, make())


def _names(model: Any) -> list[str]:
    """The names of the outputs in their order, where the model gives a list of several; else none."""
    outputs = _outputs(model)
    if not isinstance(outputs, list | tuple) or len(outputs) < 2:
        return []
    return [str(name) for name in model.output_names]


def _one_unit(models: Sequence[Any], data: Data) -> tuple[bool, ...]:
    """For each label, whether it is one of two classes by number and the output for it has one unit."""
    tasks = [task for _, task in leaves(data.task)]
    if "classification" not in tasks or not models:
        return ()
    outputs = _outputs(models[0])
    found = list(leaves(outputs)) if outputs is not None else []
    if isinstance(outputs, Mapping):
        found = [one for name in data.task for one in found if one[0] == f"[{name!r}]"] if isinstance(data.task, Mapping) else []
    if len(found) != len(tasks):
        return ()
    labels = [one for _, one in leaves(data.train.head(2)[1])]
    fit = [
        task == "classification" and output.shape[-1] == 1 and label.ndim == len(output.shape) - 1
        for task, label, (_, output) in zip(tasks, labels, found, strict=True)
    ]
    # Classes are counted last: of a stream that reads all its labels.
    return tuple(one and count == 2 for one, (_, count) in zip(fit, leaves(data.classes), strict=True)) if any(fit) else ()


def _outputs(model: Any) -> Any:
    """The outputs in their structure, None of what declares none."""
    graph = getattr(model, "_functional", None) or model  # a Sequential has its graph inside
    return getattr(graph, "_outputs_struct", None) if isinstance(model, keras.Model) else None
