"""The geometric mean against its definition."""

import numpy as np

from kdfuse.ensemble.combiners.geometric_mean import GeometricMean

Z = np.random.default_rng(0).normal(size=(5, 9, 4)).astype("float32") * 3


def test_classes_and_columns():
    p = np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)
    product = np.exp(np.log(p).mean(0))
    np.testing.assert_allclose(GeometricMean()(list(Z)), product / product.sum(-1, keepdims=True), rtol=1e-5)
    q = 1 / (1 + np.exp(-Z.astype("float64")))
    yes, no = np.exp(np.log(q).mean(0)), np.exp(np.log(1 - q).mean(0))
    np.testing.assert_allclose(GeometricMean(head="sigmoid")(list(Z)), yes / (yes + no), rtol=1e-5)
