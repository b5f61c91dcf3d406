import numpy as np

from kdfuse.compress.criteria.magnitude import Magnitude


def test_the_score_is_the_magnitude():
    weights = np.random.default_rng(0).normal(size=(1, 4, 3)).astype("float32")
    assert np.array_equal(Magnitude().scores(weights, None), np.sqrt(weights**2)) and Magnitude.scope == "layer"
