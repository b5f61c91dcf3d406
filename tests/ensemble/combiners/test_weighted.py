"""The weighted mean: given and fitted weights."""

import numpy as np
import pytest

from kdfuse.ensemble.combiners.weighted import Weighted

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 60)
GOOD = 0.6 * np.eye(3)[LABELS] + 0.4 / 3
P = np.stack([RNG.dirichlet(np.ones(3), 60), GOOD, RNG.dirichlet(np.ones(3), 60)]).astype("float32")


def test_given_weights():
    np.testing.assert_allclose(Weighted((1, 2, 1))(list(P)), P[0] / 4 + P[1] / 2 + P[2] / 4, rtol=1e-5)


@pytest.mark.parametrize("fit", ["greedy", "convex"])
def test_fitted_weights_prefer_the_better_member(fit):
    found = Weighted(fit=fit).learn(P, LABELS)
    weights = found.weights_of(3)
    assert not found.fitted and weights[1] > 0.8 and sum(weights) == pytest.approx(1)
    row = np.argmax(P[0, np.arange(60), LABELS])  # where the first member is surer of the truth than the good one
    assert Weighted(fit=fit).learn(P, LABELS, sample_weight=np.eye(60)[row]).weights_of(3)[0] > 0.9


def test_rounds_make_finer_shares():
    assert Weighted(rounds=1).learn(P, LABELS).weights_of(3) == [0, 1, 0]
    mixed = np.stack([P[1] * [[1, 0.2, 1]], P[1] * [[0.2, 1, 1]]])
    assert Weighted(rounds=9).learn(mixed / mixed.sum(-1, keepdims=True), LABELS).weights_of(2)[0] not in (0, 1)


def test_what_is_refused():
    with pytest.raises(ValueError, match="`weights`: Weighted has none yet"):
        Weighted()(list(P))
    with pytest.raises(ValueError, match="`fit`"):
        Weighted(fit="magic")
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="`rounds`"):
            Weighted(rounds=wrong)
    # Settings that would have no effect.
    with pytest.raises(ValueError, match=r"`weights`: expected None with fit='convex', which says how they are fitted. Received: \(1, 2\)"):
        Weighted((1, 2), fit="convex")
    with pytest.raises(ValueError, match=r"`weights`: expected None with rounds=9"):
        Weighted((1, 2), rounds=9)
    with pytest.raises(ValueError, match=r"`rounds`: only fit='greedy' has them. Received: rounds=9, fit='convex'"):
        Weighted(fit="convex", rounds=9)


@pytest.mark.parametrize("given", [{"fit": "convex"}, {"rounds": 7}])
def test_fitted_weights_are_read_back(given):
    found = Weighted(**given).learn(P, LABELS)
    again = Weighted.from_config(found.get_config())
    assert again.weights_of(3) == pytest.approx(found.weights_of(3)) and not again.fitted
