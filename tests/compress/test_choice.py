import numpy as np
import pytest

from kdfuse.compress.choice import choose_units, name_families, rounded
from kdfuse.graph.families import Family

A, B = Family(tuple(range(10)), ("a",), 0), Family(tuple(range(10, 14)), ("b",), 1)
SCORES = np.array([5, 1, 9, 3, 7, 2, 8, 0, 6, 4, 0.5, 20, 21, 22.0])


def test_the_lowest_go_in_each_layer():
    assert sorted(choose_units([A, B], SCORES, 0.5)) == [1, 3, 5, 7, 9, 10, 11]
    assert choose_units([A, B], SCORES, 1.0) == [] and len(choose_units([A, B], SCORES, 0.01)) == 12


def test_global_compares_layers():
    assert sorted(choose_units([A, B], SCORES, 0.5, scope="global")) == [0, 1, 3, 5, 7, 9, 10]
    assert len(choose_units([A, B], SCORES, 0.1, scope="global")) == 12  # one stays in A all the same


@pytest.mark.parametrize(
    ("wanted", "available", "to", "expected"),
    [(5, 10, 1, 5), (4.5, 10, 1, 5), (0.2, 10, 1, 1), (11, 64, 8, 8), (12, 64, 8, 16), (3, 6, 8, 6)],
)
def test_rounded(wanted, available, to, expected):
    assert rounded(wanted, available, to) == expected


def test_multiples_sizes_before_and_unscored_families():
    assert len(choose_units([A], SCORES, 0.5, round_to=4)) == 10 - 4
    assert len(choose_units([A], SCORES, 0.25, sizes={(("a",), 1): 20})) == 5  # a quarter of the 20 it had
    scores = SCORES.copy()
    scores[12] = np.nan
    assert max(choose_units([A, B], scores, 0.5)) < 10


def test_tied_families_keep_equally_many():
    halves = [Family((0, 1, 2, 3), ("a",), 0), Family((4, 5, 6, 7), ("a",), 0)]
    scores = np.array([1, 2, 3, 4, 10, 20, 30, 40.0])
    gone = choose_units(halves, scores, 0.5, scope="global")
    assert sorted(gone) == [0, 1, 4, 5]
    assert list(name_families(halves)) == [(("a",), 1), (("a",), 2)]
