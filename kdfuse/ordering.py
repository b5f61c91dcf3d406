"""Labels by name, for a model whose outputs have names and come as a list."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kdfuse.data import Data


def ordered(models: Sequence[Any], data: Data) -> Data:
    """The data with its labels in the order of the models' outputs, where these are lists and the labels a dict, as Keras takes them.

    Everything after that goes by place. Data whose labels are in such an order already, and labels of models that give dicts, stay.

    Args:
        models: what is trained or combined; the first that gives a list of outputs tells the order.
        data: with labels by name or not.

    Raises:
        ValueError: the outputs have other names than the labels.
    """
    for model in models if isinstance(data.task, Mapping) else ():
        names = _names(model)
        if not names:
            continue
        if sorted(names) != sorted(data.task):
            raise ValueError(
                f"`data` y: expected labels of the outputs {names} of {model.name!r}. Received: {sorted(data.task)}. Call the layers that "
                "give the outputs so, or give the labels as a tuple in the order of the outputs."
            )
        return data.in_order(names)
    return data


def _names(model: Any) -> list[str]:
    """The names of the outputs in their order, where the model gives a list of several; else none."""
    outputs = getattr(model, "_outputs_struct", None) if isinstance(model, keras.Model) else None
    if not isinstance(outputs, list | tuple) or len(outputs) < 2:
        return []
    return [str(name) for name in model.output_names]
