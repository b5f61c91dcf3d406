import math

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import ParameterSampler

from kdfuse.search.space import Float, Int, Space, label, seeded


def test_integers_are_drawn_evenly_with_both_ends():
    drawn = Int(1, 4).rvs(size=4000, random_state=0)
    assert drawn.dtype.kind == "i"
    assert np.bincount(drawn, minlength=5)[1:] == pytest.approx([1000] * 4, rel=0.12)


def test_steps_reach_the_last_whole_one():
    assert set(Int(2, 9, step=3).rvs(size=200, random_state=0)) == {2, 5, 8}


def test_logarithmic_ranges_are_even_in_the_logarithm():
    numbers = Float(1e-4, 1.0, log=True).rvs(size=4000, random_state=1)
    assert stats.kstest(np.log10(numbers), stats.uniform(-4, 4).cdf).pvalue > 0.01
    counts = Int(8, 64, log=True).rvs(size=4000, random_state=1)
    assert (counts.min(), counts.max()) == (8, 64)
    assert np.mean(counts < math.sqrt(7.5 * 64.5)) == pytest.approx(0.5, abs=0.04)


def test_a_range_draws_as_the_distributions_of_scipy_do():
    assert Float(0, 1).rvs(random_state=3) == Float(0, 1).rvs(random_state=np.random.RandomState(3))
    assert Float(0, 1).rvs(size=(2, 3), random_state=0).shape == (2, 3)
    assert isinstance(Int(1, 9).rvs(), int)
    assert 0 <= Float(0, 1).rvs(random_state=np.random.default_rng(0)) <= 1
    rows = list(ParameterSampler({"a": Int(1, 3), "b": Float(0, 1), "c": ["x"]}, 5, random_state=0))
    assert len(rows) == 5 and all(type(row["a"]) is int for row in rows)


def test_points_divide_a_range_with_both_ends():
    assert Int(1, 3).points(5) == [1, 2, 3]
    assert Int(0, 100).points(3) == [0, 50, 100]
    assert Float(0, 1).points(3) == [0, 0.5, 1]
    assert Float(1e-4, 1.0, log=True).points(3) == pytest.approx([1e-4, 1e-2, 1.0])
    assert Int(8, 64, log=True).points(4) == [8, 16, 32, 64]
    assert Float(0, 1).points(1) == [0.5]


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Float(0, 1, log=True), ValueError, "no zero"),
        (lambda: Float(1, 1), ValueError, "above low=1"),
        (lambda: Int(3, 1), ValueError, "above low=3"),
        (lambda: Int(0.5, 3), TypeError, "integer"),
        (lambda: Int(1, 9, step=0), ValueError, "at least 1"),
        (lambda: Int(1, 9, log=True, step=2), ValueError, "logarithmic"),
        (lambda: Float("a", 1), TypeError, "finite number"),
        (lambda: Float(0, math.inf), TypeError, "finite number"),
        (lambda: Int(1, 2, log=1), TypeError, "True or False"),
        (lambda: Int(1, 9, stpe=2), TypeError, "Did you mean 'step'"),
        (lambda: Space({}), ValueError, "nothing to choose"),
        (lambda: Space({"a": []}), ValueError, "'a'.*empty list"),
        (lambda: Space([1]), TypeError, "a dict"),
        (lambda: Space({"a": {8, 16}}), TypeError, "'a' in an order of their own.*Give a list"),
        (lambda: Space({"a": iter([8, 16])}), TypeError, "Give a list"),
        (lambda: Space({"a": Int}), TypeError, r"Int\(low, high\)"),
    ],
)
def test_bad_spaces_say_what_is_wrong(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_a_draw_depends_on_the_seed_and_the_number_alone():
    space = Space({"a": [1, 2, 3], "b": Float(0, 1), "c": stats.uniform(0, 2), "d": 7})
    first = space.draw(seeded(0, 5))
    assert space.draw(seeded(0, 5)) == first != space.draw(seeded(0, 6))
    assert first["d"] == 7 and len(space) == 4 and "a" in space and list(space) == ["a", "b", "c", "d"]


def test_a_grid_has_every_combination_once():
    rows = list(Space({"a": ["x", "y"], "b": Int(1, 3), "c": 0.5}).grid(2))
    assert [(row["a"], row["b"]) for row in rows] == [("x", 1), ("x", 3), ("y", 1), ("y", 3)]
    with pytest.raises(TypeError, match="a grid has no points"):
        list(Space({"a": stats.uniform()}).grid(2))


def test_labels_are_short_and_different():
    space = Space({"a": [len, (1, 2), "x"], "b": [1, True]})
    assert list(space.labels("a")) == ["len", "(1, 2)", "'x'"]
    assert space.labels("a")["len"] is len
    assert list(Space({"a": [[1], (1,)]}).labels("a")) == ["[1]", "(1,)"]
    assert label(object()) == "object"


def test_ranges_and_arrays_are_choices_of_plain_numbers():
    space = Space({"a": range(1, 4), "b": np.arange(2), "c": [np.int64(7), np.float32(0.5)], "d": stats.randint(1, 3)})
    assert space.choices("a") == (1, 2, 3)
    assert [type(one) for name in "bc" for one in space.choices(name)] == [int, int, int, float]
    assert type(space.draw(seeded(0, 0))["d"]) is int


def test_the_texts_of_two_choices_are_different():
    first, second = (lambda: 0), (lambda: 1)
    space = Space({"a": [first, second], "b": [(8, 8), (4,)]})
    assert [space.text("a", value) for value in (first, second)] == ["<lambda>", "<lambda> (1)"]
    assert [space.text("b", value) for value in ((8, 8), 3, "x")] == ["(8, 8)", 3, "x"]
    long = Space({"a": [(1,) * 30, (2,) * 30]})
    assert [long.text("a", value) for value in long.choices("a")] == ["tuple", "tuple (1)"]
