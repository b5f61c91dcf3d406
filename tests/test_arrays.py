import hashlib

import numpy as np
import pytest

from kdfuse import arrays


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("float64", "float32"),
        ("float32", "float32"),
        ("float16", "float16"),
        ("uint8", "uint8"),
        ("int64", "int64"),
        ("bool", "bool"),
        (">i4", "int32"),
    ],
)
def test_only_float64_changes_its_type(given: str, kept: str) -> None:
    assert arrays.to_arrays(np.zeros((2, 3), given), "x").dtype == kept


def test_lists_of_numbers_are_arrays_and_lists_of_arrays_are_several_inputs() -> None:
    assert arrays.to_arrays([[1, 2], [3, 4]], "x").shape == (2, 2)
    several = arrays.to_arrays([np.zeros(2), {"a": np.zeros((2, 1))}], "x")
    assert isinstance(several, tuple) and several[1]["a"].shape == (2, 1)


def test_tensorflow_and_pandas_like_arrays() -> None:
    import tensorflow as tf

    assert arrays.to_arrays(tf.constant([[1.0, 2.0]]), "x").dtype == np.float32
    assert arrays.to_arrays(tf.constant([1.0, 2.0], tf.bfloat16), "x").dtype == np.float32

    class Frame:  # converts itself, as pandas and JAX do
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.ones((3, 2))

    assert arrays.to_arrays(Frame(), "x").shape == (3, 2)


def test_a_tensor_with_gradients_is_detached() -> None:
    class Tensor:  # answers as a PyTorch tensor does
        def detach(self) -> "Tensor":
            return self

        def cpu(self) -> np.ndarray:
            return np.ones(3, np.float32)

    np.testing.assert_array_equal(arrays.to_arrays(Tensor(), "x"), [1, 1, 1])


def test_text_only_where_it_is_allowed() -> None:
    words = np.array(["good", "bad"], dtype=object)
    assert arrays.to_arrays(words, "x", text=True).dtype.kind == "U"
    assert arrays.to_arrays(np.array([b"good", b"bad"], dtype=object), "x", text=True).dtype.kind == "S"
    with pytest.raises(ValueError, match="expected an array of numbers"):
        arrays.to_arrays(words, "y")


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([1j]),
        [[1, 2], [3]],
        None,
        3.0,
        {},
        np.ma.masked_array([1.0, 2.0], [0, 1]),
        np.array(["2020"], "datetime64[D]"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"`train` x.*expected .*Received: .*\."):
        arrays.to_arrays(value, "`train` x")


def test_the_callers_array_stays_writable_and_ours_is_not() -> None:
    given = np.zeros(3, np.float32)
    made = arrays.to_arrays(given, "x")
    given[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        made[0] = 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_the_row_that_is_not_finite_is_named(bad: float) -> None:
    values = np.ones((5, 2))
    values[3, 1] = bad
    with pytest.raises(ValueError, match="row 3 and 0 more"):
        arrays.check_finite({"a": arrays.to_arrays(values, "x")}, "x")


def test_rows() -> None:
    assert arrays.check_rows({"x": (np.zeros((3, 2)), np.zeros(3))}, "`train`") == 3
    with pytest.raises(ValueError, match=r"\['x'\]: 3, .*\['y'\]: 4"):
        arrays.check_rows({"x": np.zeros(3), "y": np.zeros(4)}, "`train`")
    with pytest.raises(ValueError, match="at least one row"):
        arrays.check_rows({"x": np.zeros((0, 4))}, "`train`")


def test_the_fingerprint_by_hand() -> None:
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert arrays.fingerprint(x) == hashlib.sha256(b"|<i4|(2, 3)|" + x.tobytes()).hexdigest()


def test_the_fingerprint_tells_dtype_shape_structure_and_values_apart() -> None:
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    other = x.copy()
    other[1, 2] = 7
    kinds = [x, x.reshape(3, 2), x.view(np.uint32), other, {"a": x}, {"b": x}, (x,), x.T, {"a": x, "b": x}, np.zeros((0, 3), np.int32)]
    marks = [arrays.fingerprint(kind) for kind in kinds]
    assert len(set(marks)) == len(marks)
    assert arrays.fingerprint(np.asfortranarray(x)) == marks[0]
    assert arrays.fingerprint({"b": other, "a": x}) == arrays.fingerprint({"a": x, "b": other})


def test_map_and_leaves_by_place() -> None:
    structure = {"a": np.array([1]), "b": (np.array([2]), np.array([3]))}
    assert [place for place, _ in arrays.leaves(structure, "x")] == ["x['a']", "x['b'][0]", "x['b'][1]"]
    doubled = arrays.map_leaves(lambda one, two: one + two, structure, {"b": structure["b"], "a": structure["a"]})
    assert int(doubled["b"][1][0]) == 6
    assert arrays.same_structure(structure, doubled)
    assert not arrays.same_structure(structure, {"a": 1})


def test_what_goes_by_name_in_an_order() -> None:
    assert arrays.in_order({"a": 1, "b": 2}, ["b", "a"]) == (2, 1)
    assert arrays.in_order(None, ["b", "a"]) is None and arrays.in_order((1, 2), ["b", "a"]) == (1, 2)
