"""Weights that are fitted: against a grid, and by the rules of the papers."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from kdfuse.ensemble.combiners.fitting import convex, greedy, objective

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 80)
P = np.stack(
    [0.7 * RNG.dirichlet(np.ones(3), 80) + 0.3 * np.eye(3)[np.where(RNG.random(80) < right, LABELS, 0)] for right in (0.9, 0.6, 0.3)]
)
ONE_HOT = np.eye(3)[LABELS]
SHARES = RNG.random(80)


def by_hand(weights, sample_weight=None):
    chances = np.einsum("k,krc->rc", weights, P)[np.arange(80), LABELS]
    return np.average(-np.log(chances), weights=sample_weight)


@pytest.mark.parametrize("sample_weight", [None, SHARES])
@pytest.mark.parametrize("targets", [LABELS, ONE_HOT], ids=["numbers", "one-hot"])
def test_log_loss_and_its_gradient(targets, sample_weight):
    loss = objective(P, targets, "softmax", sample_weight)
    weights = np.array([0.5, 0.2, 0.3])
    value, gradient = loss(weights)
    assert value == pytest.approx(by_hand(weights, sample_weight), rel=1e-6)
    np.testing.assert_allclose(gradient, approx_fprime(weights, lambda given: loss(given)[0]), rtol=1e-4)


def test_columns_and_values():
    q, yes = RNG.random((2, 50, 2)), RNG.integers(0, 2, (50, 2))
    mixed = 0.4 * q[0] + 0.6 * q[1]
    want = -(yes * np.log(mixed) + (1 - yes) * np.log(1 - mixed)).mean()
    assert objective(q, yes, "sigmoid")(np.array([0.4, 0.6]))[0] == pytest.approx(want)
    assert objective(q, yes, "regression")(np.array([0.4, 0.6]))[0] == pytest.approx(((mixed - yes) ** 2).mean())


def test_convex_is_the_best_of_a_grid():
    loss = objective(P, LABELS, "softmax")
    grid = [np.array([a, b, 1 - a - b]) for a in np.linspace(0, 1, 41) for b in np.linspace(0, 1 - a, 41)]
    found = convex(loss, 3)
    assert found.sum() == pytest.approx(1) and found.min() >= 0
    assert loss(found)[0] <= min(loss(weights)[0] for weights in grid) + 1e-9


def test_greedy_takes_the_best_first_and_never_ends_worse():
    loss = objective(P, LABELS, "softmax")
    alone = [loss(unit)[0] for unit in np.eye(3)]
    np.testing.assert_array_equal(greedy(loss, 3, 1), np.eye(3)[np.argmin(alone)])
    found = greedy(loss, 3, 40)
    assert loss(found)[0] <= min(alone) and loss(convex(loss, 3))[0] <= loss(found)[0] + 1e-9 < loss(convex(loss, 3))[0] + 1e-3


def test_convex_is_the_fixed_point_of_expectation_maximisation():
    chances = P[:, np.arange(80), LABELS]
    weights = np.full(3, 1 / 3)
    for _ in range(5000):
        weights = weights * (chances @ (SHARES / (weights @ chances))) / SHARES.sum()
    np.testing.assert_allclose(convex(objective(P, LABELS, "softmax", SHARES), 3), weights, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e7])
def test_the_unit_of_the_values_makes_no_difference(scale):
    truth = np.linspace(-1, 1, 60)
    values = (truth + RNG.normal(size=(3, 60)) * [[0.1], [0.12], [1.0]])[..., None]
    plain, scaled = objective(values, truth, "regression"), objective(values * scale, truth * scale, "regression")
    np.testing.assert_allclose(convex(scaled, 3), convex(plain, 3), atol=1e-3)
    np.testing.assert_array_equal(greedy(scaled, 3, 20), greedy(plain, 3, 20))
    assert 0.05 < convex(plain, 3)[1] < 0.95


def test_yes_and_no_as_one_hot_rows():
    q, yes = RNG.random((2, 50, 1)), RNG.integers(0, 2, 50)
    weights = np.array([0.4, 0.6])
    assert objective(q, np.eye(2)[yes], "sigmoid")(weights)[0] == pytest.approx(objective(q, yes, "sigmoid")(weights)[0])


def test_predictions_that_are_not_finite_are_refused():
    wrong = P.copy()
    wrong[1, 5] = np.nan
    with pytest.raises(ValueError, match=r"`model`: expected finite predictions .* from members \[2\]"):
        objective(wrong, LABELS, "softmax")
