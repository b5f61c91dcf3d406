from typing import Any

import pytest

from kdfuse.models.inputs import is_shape, make_inputs, single_input


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((), True), ((3,), True), ([None, 2], True), (((3,), (2,)), False), ({"a": (3,)}, False), (((), ()), False), ("ab", False)],
)
def test_is_shape(shape: Any, expected: bool) -> None:
    assert is_shape(shape) is expected


def test_the_structure_is_kept() -> None:
    structure, tensors = make_inputs({"a": ((2,), (3, 4)), "b/c": ()})
    assert {name: tuple(each.shape) for name, each in tensors.items()} == {"a_1": (None, 2), "a_2": (None, 3, 4), "b_c": (None,)}
    assert structure == {"a": (tensors["a_1"], tensors["a_2"]), "b/c": tensors["b_c"]}
    assert list(make_inputs(((2,), (3,)))[1]) == ["input_1", "input_2"]
    assert list(make_inputs({"a_b": (2,), "a": {"b": (3,)}})[1]) == ["a_b", "a_b_input"]


def test_a_single_input() -> None:
    structure, tensor = single_input("convnet", (8, 8))
    assert structure is tensor
    assert tensor.name == "input" and tensor.dtype == "float32"
    assert single_input("convnet", {"text": (8,)}, "int32")[0]["text"].dtype == "int32"


@pytest.mark.parametrize("shape", [(0, 3), (-1,), {}, None, "abc", {"a": 3.5}])
def test_errors(shape: Any) -> None:
    with pytest.raises(ValueError, match=r"`data`: expected .* Received: input_shape="):
        make_inputs(shape)
