"""The trimmed mean against SciPy's."""

import numpy as np
import pytest
from scipy.stats import trim_mean

from kdfuse.ensemble.combiners.trimmed_mean import TrimmedMean

P = np.random.default_rng(0).dirichlet(np.ones(4), (7, 9)).astype("float32")


@pytest.mark.parametrize("cut", [0.0, 0.1, 0.2, 0.3, 0.45])
@pytest.mark.parametrize("count", [2, 5, 7])
def test_the_ends_are_left_out(cut, count):
    want = trim_mean(P[:count], cut, axis=0)
    np.testing.assert_allclose(TrimmedMean(cut, head="sigmoid")(list(P[:count])), want, rtol=1e-5)
    np.testing.assert_allclose(TrimmedMean(cut)(list(P[:count])), want / want.sum(-1, keepdims=True), rtol=1e-5)


def test_a_cut_that_leaves_nobody_is_refused():
    for wrong in (0.5, -0.1, "x", True):
        with pytest.raises(ValueError, match="`cut`: expected a share in"):
            TrimmedMean(wrong)
