"""Median by hand."""

import numpy as np

from kdfuse.ensemble.combiners.median import Median

P = np.random.default_rng(0).dirichlet(np.ones(4), (6, 9)).astype("float32")


def norm(values):
    return values / values.sum(-1, keepdims=True)


def test_probabilities_and_columns():
    np.testing.assert_allclose(Median()(list(P)), norm(np.median(P, 0)), rtol=1e-5)
    np.testing.assert_allclose(Median()(list(P[:5])), norm(np.median(P[:5], 0)), rtol=1e-5)
    np.testing.assert_allclose(Median(head="sigmoid")(list(P)), np.median(P, 0), rtol=1e-5)


def test_members_that_disagree_for_certain_leave_it_open():
    np.testing.assert_allclose(Median()(list(np.eye(3, dtype="float32")[:, None])), np.full((1, 3), 1 / 3), rtol=1e-6)
