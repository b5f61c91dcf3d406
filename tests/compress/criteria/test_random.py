import numpy as np
import pytest

from kdfuse.compress.criteria.random import RandomImportance


def test_by_the_seed(of):
    first, again, other = (of(RandomImportance(seed), "conv") for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.unique(of(RandomImportance(), "dense")).size == 6
    with pytest.raises(ValueError, match="`seed`"):
        RandomImportance(-1)
