"""Mean by hand."""

import numpy as np

from kdfuse.ensemble.combiners.mean import Mean

P = np.random.default_rng(0).dirichlet(np.ones(4), (6, 9)).astype("float32")


def test_probabilities_and_columns():
    np.testing.assert_allclose(Mean()(list(P)), np.mean(P, 0), rtol=1e-5)
    np.testing.assert_allclose(Mean()(list(P[:5])), np.mean(P[:5], 0), rtol=1e-5)
    np.testing.assert_allclose(Mean(head="sigmoid")(list(P)), np.mean(P, 0), rtol=1e-5)
