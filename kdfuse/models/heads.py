"""The last layers of a model, from the task that its data has."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras

from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.checks import integer, option
from kdfuse.models.inputs import layer_name

# The first of each is what head="auto" means. One sigmoid column says by itself that it is a probability; one or several
# linear columns would read as the logits of a softmax.
HEADS = {
    "classification": ("logits", "softmax"),
    "binary": ("sigmoid", "logits"),
    "multilabel": ("sigmoid", "logits"),
    "regression": ("regression",),
}
HEAD_NAMES = ("auto", "logits", "softmax", "sigmoid", "regression")
ACTIVATION = {"logits": "linear", "softmax": "softmax", "sigmoid": "sigmoid", "regression": "linear"}


def finish(inputs: Any, features: Any, data: Any, *, head: Any, pieces: Pieces, name: str) -> keras.Model:
    """The model from `inputs` to one head for each output of `data`.

    A head is a dense layer in float32, also under mixed precision: "logits" (no activation), "softmax", "sigmoid" or
    "regression" (no activation). It is called "logits" or "output", or after its output if there are several.

    Args:
        inputs: structure of input tensors.
        features: `[batch, features]`.
        data: says `task` and `classes`, or dicts or tuples of them for several outputs.
        head: one of `HEAD_NAMES` for all outputs, or a tuple with one for each. "auto": logits for classification, sigmoid for
            binary and multilabel, regression for regression.
        pieces: makes the layers.
        name: of the model.

    Raises:
        ValueError: an unknown task or head, a head that does not fit the task, or a number of classes that is missing.
    """
    if isinstance(data.task, str):
        heads = _heads_of(head, 1)
        return keras.Model(inputs, _head("", data.task, data.classes, heads[0], features, pieces), name=name)
    if isinstance(data.task, Mapping):
        keys: list[Any] = list(data.task)
        tasks = list(data.task.values())
        classes = [data.classes[key] if isinstance(data.classes, Mapping) else None for key in keys]
    elif isinstance(data.task, tuple | list):
        keys = [f"output_{index}" for index in range(1, len(data.task) + 1)]
        tasks = list(data.task)
        classes = list(data.classes) if isinstance(data.classes, tuple | list) else [None] * len(tasks)
    else:
        raise ValueError(f"`data`: expected a task, or a dict or tuple of tasks. Received: task={data.task!r}.")
    heads = _heads_of(head, len(tasks))
    names = _free_names(keys, (layer.name for layer in keras.Model(inputs, features).layers))
    outputs = [_head(*each, features, pieces) for each in zip(names, tasks, classes, heads, strict=True)]
    structure = dict(zip(keys, outputs, strict=True)) if isinstance(data.task, Mapping) else tuple(outputs)
    return keras.Model(inputs, structure, name=name)


def _heads_of(head: Any, count: int) -> list[Any]:
    if not isinstance(head, tuple | list):
        return [head] * count
    if len(head) != count:
        raise ValueError(f"`head`: expected one head, or one for each of the {count} outputs. Received: head={head!r}.")
    return list(head)


def _head(name: str, task: Any, classes: Any, head: Any, features: Any, pieces: Pieces) -> Any:
    where = f" of output {name!r}" if name else ""
    if not isinstance(task, str) or task not in HEADS:
        raise ValueError(f"`data`: expected a task{where} among {list(HEADS)}. Received: task={task!r}.")
    option("head", head, HEAD_NAMES)
    kind = HEADS[task][0] if head == "auto" else head
    if kind not in HEADS[task]:
        fitting = " or ".join(repr(each) for each in ("auto", *HEADS[task]))
        raise ValueError(f"`head`: {head!r} does not fit the {task} task{where}. Received: head={head!r}. Use {fitting}.")
    layer = keras.layers.Dense(
        _columns(task, classes, where),
        activation=ACTIVATION[kind],
        kernel_initializer=pieces.initializer(name or "head", "glorot_uniform"),
        dtype="float32" if keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16") else None,
        name=name or ("logits" if kind == "logits" else "output"),
    )
    return layer(features)


def _columns(task: str, classes: Any, where: str) -> int:
    if task == "binary":
        return 1
    if task == "regression" and classes is None:
        return 1
    return integer(f"data.classes{where}", classes, low=2 if task == "classification" else 1)


def _free_names(keys: Iterable[Any], taken: Iterable[str]) -> list[str]:
    used = set(taken)
    names = []
    for key in keys:
        name = layer_name(key)
        # An output may be called as an input (an autoencoder's "image"), but two layers may not.
        while name in used:
            name += "_output"
        used.add(name)
        names.append(name)
    return names
