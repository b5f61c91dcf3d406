from types import SimpleNamespace
from typing import Any

import keras
import pytest

from kdfuse.models.mlp import mlp


def build(task: Any, classes: Any, head: Any = "auto", shape: Any = (4,)) -> keras.Model:
    return mlp(SimpleNamespace(input_shape=shape, task=task, classes=classes), units=(3,), head=head)


@pytest.mark.parametrize(
    ("task", "classes", "head", "expected"),
    [
        ("classification", 5, "auto", ("logits", "linear", 5)),
        ("classification", 5, "logits", ("logits", "linear", 5)),
        ("classification", 5, "softmax", ("output", "softmax", 5)),
        ("binary", 1, "auto", ("output", "sigmoid", 1)),
        ("binary", None, "sigmoid", ("output", "sigmoid", 1)),
        ("binary", 2, "logits", ("logits", "linear", 1)),
        ("multilabel", 7, "auto", ("output", "sigmoid", 7)),
        ("multilabel", 7, "logits", ("logits", "linear", 7)),
        ("regression", None, "auto", ("output", "linear", 1)),
        ("regression", 3, "regression", ("output", "linear", 3)),
    ],
)
def test_the_head_fits_the_task(task: str, classes: Any, head: str, expected: tuple[str, str, int]) -> None:
    layer = build(task, classes, head).layers[-1]
    assert (layer.name, layer.activation.__name__, layer.units) == expected


@pytest.mark.parametrize(
    ("task", "classes", "head", "message"),
    [
        ("regression", 1, "softmax", "'softmax' does not fit the regression task. .*Use 'auto' or 'regression'"),
        ("binary", 1, "softmax", "'softmax' does not fit the binary task"),
        ("classification", 3, "sigmoid", "'sigmoid' does not fit the classification task"),
        ("classification", 3, "softmx", "Did you mean 'softmax'"),
        ("classification", None, "auto", r"`data.classes`: expected an integer of at least 2"),
        ("classification", 1, "auto", r"`data.classes`: expected an integer of at least 2"),
        ("multilabel", None, "auto", r"`data.classes`: expected an integer of at least 1"),
        ("clustering", 3, "auto", r"`data`: expected a task among"),
        (7, 3, "auto", r"`data`: expected a task, or"),
        (("binary", "regression"), (1, 1), ("auto",), "one for each of the 2 outputs"),
        ({"a": "binary", "b": "clustering"}, {"a": 1, "b": 1}, "auto", "a task of output 'b'"),
        ({"a": "binary", "b": "classification"}, None, "auto", "`data.classes of output 'b'`"),
    ],
)
def test_errors(task: Any, classes: Any, head: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(task, classes, head)


def test_one_head_for_each_output() -> None:
    model = build(("classification", "classification"), (3, 4), ("softmax", "logits"))
    assert isinstance(model.output, tuple | list)
    assert [(layer.name, layer.activation.__name__, layer.units) for layer in model.layers[-2:]] == [
        ("output_1", "softmax", 3),
        ("output_2", "linear", 4),
    ]


def test_heads_of_several_outputs_start_differently() -> None:
    one, two = build({"a": "regression", "b": "regression"}, {"a": 2, "b": 2}).layers[-2:]
    assert not (one.get_weights()[0] == two.get_weights()[0]).any()


def test_an_output_may_be_called_as_an_input_or_a_layer() -> None:
    model = build(
        {"image": "regression", "dense_1": "binary", "a/b": "binary"}, {"image": 2, "dense_1": 1, "a/b": 1}, shape={"image": (4,)}
    )
    assert list(model.output) == ["image", "dense_1", "a/b"]
    assert {layer.name for layer in model.layers[-3:]} == {"image_output", "dense_1_output", "a_b"}
