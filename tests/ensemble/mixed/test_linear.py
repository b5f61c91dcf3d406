"""Linear models against scikit-learn's predictions, and what it does not take."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from kdfuse.ensemble.mixed.linear import fit_linear

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 5))
SCORES = X @ RNG.normal(size=(5, 3)) + RNG.normal(size=(80, 3))
LABELS, SHARES = SCORES.argmax(1), RNG.uniform(0.2, 2, 80)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(1):  # small matrices: more threads wait for each other
        yield


def chances(found, x=X):
    z = x @ found.kernel + found.bias
    if found.activation == "sigmoid":
        return 1 / (1 + np.exp(-z))
    return z if found.activation == "linear" else np.exp(z) / np.exp(z).sum(1, keepdims=True)


def peer(labels, strength=1.0, weights=None):
    return LogisticRegression(C=strength, max_iter=10_000, tol=1e-8).fit(X, labels, sample_weight=weights)


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_classes(strength):
    found = fit_linear(X, LABELS, SHARES, "softmax", 3, strength)
    np.testing.assert_allclose(chances(found), peer(LABELS, strength, SHARES).predict_proba(X), atol=1e-4)
    assert found.kernel.shape == (5, 3) and found.bias.shape == (3,) and found.activation == "softmax" and found.converged
    np.testing.assert_allclose(chances(fit_linear(X, np.eye(3)[LABELS], SHARES, "softmax", 3, strength)), chances(found), atol=1e-9)
    np.testing.assert_allclose(chances(fit_linear(X, LABELS[:, None], SHARES, "softmax", 3, strength)), chances(found), atol=1e-9)


def test_soft_labels_are_rows_of_every_class_with_weights():
    soft = RNG.dirichlet(np.ones(3), 80)
    found = fit_linear(X, soft, None, "softmax", 3, 1.0)
    model = LogisticRegression(max_iter=10_000, tol=1e-8)
    model.fit(np.repeat(X, 3, 0), np.tile(np.arange(3), 80), sample_weight=soft.reshape(-1))
    np.testing.assert_allclose(chances(found), model.predict_proba(X), atol=1e-5)


def test_two_classes_in_two_columns_and_in_one():
    labels = (LABELS == 1).astype(int)
    expected = peer(labels).predict_proba(X)
    np.testing.assert_allclose(chances(fit_linear(X, labels, None, "softmax", 2, 1.0)), expected, atol=1e-5)
    for truth in (labels, labels[:, None].astype("float32")):
        found = fit_linear(X, truth, None, "sigmoid", 1, 1.0)
        np.testing.assert_allclose(chances(found), expected[:, 1:], atol=1e-5)
        assert found.activation == "sigmoid"


def test_several_columns():
    truth = (SCORES > 0).astype("float32")
    found = chances(fit_linear(X, truth, SHARES, "sigmoid", 3, 2.0))
    for column in range(3):
        np.testing.assert_allclose(found[:, column], peer(truth[:, column], 2.0, SHARES).predict_proba(X)[:, 1], atol=1e-5)


def test_a_class_that_no_row_has_is_never_chosen():
    found = chances(fit_linear(X, np.where(LABELS == 2, 3, LABELS), None, "softmax", 5, 1.0), 3 * X)
    assert found[:, [2, 4]].max() < 1e-10
    np.testing.assert_allclose(found[:, [0, 1, 3]], peer(LABELS).predict_proba(3 * X), atol=1e-4)
    assert chances(fit_linear(X, np.full(80, 1), None, "softmax", 3, 1.0))[:, 1].min() > 0.999
    assert chances(fit_linear(X, np.zeros((80, 1)), None, "sigmoid", 1, 1.0)).max() < 0.001
    unweighted = fit_linear(X, LABELS, (LABELS != 2).astype(float), "softmax", 3, 1.0)
    assert chances(unweighted)[:, 2].max() < 1e-10


def test_values():
    for truth in (SCORES, SCORES[:, 0]):
        units = 3 if truth.ndim == 2 else 1
        found = fit_linear(X, truth, SHARES, "regression", units, 0.5)
        expected = Ridge(alpha=2.0).fit(X, truth, sample_weight=SHARES).predict(X)
        np.testing.assert_allclose(chances(found), expected.reshape(80, units), rtol=1e-6)
        assert found.activation == "linear" and found.bias.shape == (units,)


def test_a_fit_that_does_not_end_says_so(monkeypatch):
    monkeypatch.setattr("kdfuse.ensemble.mixed.linear.MOST_STEPS", 2)
    assert not fit_linear(X, LABELS, None, "softmax", 3, 100.0).converged
