"""The mean of logits, and that its softmax is the geometric mean."""

import numpy as np
from keras import ops

from kdfuse.ensemble.combiners.geometric_mean import GeometricMean
from kdfuse.ensemble.combiners.logit_mean import LogitMean

Z = np.random.default_rng(0).normal(size=(5, 9, 4)).astype("float32") * 3


def test_logits_in_logits_out():
    np.testing.assert_allclose(LogitMean()(list(Z)), Z.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ops.softmax(LogitMean()(list(Z))), GeometricMean()(list(Z)), rtol=1e-5)
