"""Outputs as flat lists, by place and by name."""

import pytest

from kdfuse.distill.structure import aligned, flat, names, place


def test_flat_keeps_the_order_in_which_it_was_written() -> None:
    assert flat({"b": 1, "a": (2, [3])}) == [1, 2, 3] and flat(4) == [4]
    assert list(names({"b": 1, "a": (2, 3)})) == ["b", "a/0", "a/1"] and list(names([1, 2])) == [None, None]


def test_aligned_goes_by_name() -> None:
    like = {"b": 0, "a": 0}
    assert aligned("x", {"a": 1, "b": 2}, like) == [2, 1]
    assert aligned("x", [1, 2], like) == [1, 2] and aligned("x", (1, 2), [0, 0]) == [1, 2]
    assert aligned("x", 5, like, repeat=True) == [5, 5] and aligned("x", None, like, repeat=True) == [None, None]
    assert aligned("x", {"a": 1}, like, repeat=True) == [None, 1]
    assert aligned("x", [[1], {"c": 2}], [[0], {"c": 0}]) == [1, 2]
    with pytest.raises(ValueError, match=r"x: there is no output 'b'. Did you mean 'bb'\?"):
        aligned("x", {"a": 1, "bb": 2}, like)
    with pytest.raises(ValueError, match="x: expected one for each output, 2 in all. Received: 1"):
        aligned("x", 5, like)


def test_place() -> None:
    assert place("Loss", "a", ["b", "a"]) == 1 and place("Loss", -1, [None, None]) == 1
    for wrong in ("c", 2, -3):
        with pytest.raises(ValueError, match=f"Loss: there is no output {wrong!r}"):
            place("Loss", wrong, ["b", "a"])
