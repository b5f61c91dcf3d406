import numpy as np
import pytest

from kdfuse.compress.criteria.weights import WeightCriterion


def test_the_family_itself_scores_nothing():
    with pytest.raises(TypeError, match="a family of criteria"):
        WeightCriterion().scores(np.ones((1, 2, 2)), None)
    assert WeightCriterion().cut(np.ones(3)) is None and WeightCriterion().measure(None, [1, 2], None) == [None, None]
