"""Max by hand."""

import numpy as np

from kdfuse.ensemble.combiners.maximum import Max

P = np.random.default_rng(0).dirichlet(np.ones(4), (6, 9)).astype("float32")


def norm(values):
    return values / values.sum(-1, keepdims=True)


def test_probabilities_and_columns():
    np.testing.assert_allclose(Max()(list(P)), norm(P.max(0)), rtol=1e-5)
    np.testing.assert_allclose(Max()(list(P[:5])), norm(P[:5].max(0)), rtol=1e-5)
    np.testing.assert_allclose(Max(head="sigmoid")(list(P)), P.max(0), rtol=1e-5)
