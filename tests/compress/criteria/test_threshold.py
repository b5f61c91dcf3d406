import numpy as np
import pytest

from kdfuse.compress.criteria.threshold import Threshold


def test_the_cut_is_absolute_or_in_deviations_of_what_is_there():
    weights = np.random.default_rng(0).normal(0, 3, (1, 40, 30)).astype("float32")
    weights[0, :20] = 0
    assert Threshold(0.25).cut(weights) == 0.25
    assert Threshold(0.25, "std").cut(weights) == pytest.approx(0.25 * weights[0, 20:].std())
    assert Threshold(0.25, "std").cut(np.zeros((1, 2, 2))) == 0.25
    assert np.array_equal(Threshold(1.0).scores(weights, None), np.abs(weights))


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), True, "a"])
def test_a_threshold_is_a_number_above_0(value):
    with pytest.raises(ValueError, match="`value` of Threshold"):
        Threshold(value)


def test_an_unknown_unit_raises():
    with pytest.raises(ValueError, match="`unit`"):
        Threshold(1.0, "sigma")
