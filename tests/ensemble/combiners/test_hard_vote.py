"""Votes, ties and weights against scikit-learn's VotingClassifier."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import VotingClassifier
from sklearn.preprocessing import LabelEncoder

from kdfuse.ensemble.combiners.hard_vote import HardVote
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.combiners.weighted import Weighted

P = np.random.default_rng(0).dirichlet(np.ones(4), (4, 200)).astype("float32")


class Told(ClassifierMixin, BaseEstimator):
    """A classifier that knows its probabilities for each row, given by its number."""

    def __init__(self, place=0):
        self.place = place

    def predict_proba(self, rows):
        return P[self.place][np.asarray(rows)[:, 0].astype(int)]

    def predict(self, rows):
        return self.predict_proba(rows).argmax(-1)


def voting(kind, weights):
    found = VotingClassifier([(str(place), Told(place)) for place in range(4)], voting=kind, weights=weights)
    found.estimators_, found.le_, found.classes_ = [Told(place) for place in range(4)], LabelEncoder().fit(range(4)), np.arange(4)
    return found


@pytest.mark.parametrize("weights", [None, (1, 2, 3, 1), (0.5, 0.1, 0.1, 0.3)])
def test_scikit_learn_decides_alike(weights):
    rows = np.arange(200)[:, None]
    votes = np.asarray(HardVote(weights)(list(P)))
    np.testing.assert_array_equal(votes.argmax(-1), voting("hard", weights).predict(rows))
    soft = Mean() if weights is None else Weighted(weights)
    np.testing.assert_allclose(soft(list(P)), voting("soft", weights).predict_proba(rows), rtol=1e-5)


def test_shares_of_votes_and_columns():
    members = [np.array([[0.9, 0.1], [0.4, 0.6]], "float32"), np.array([[0.2, 0.8], [0.3, 0.7]], "float32")]
    np.testing.assert_allclose(HardVote()(members), [[0.5, 0.5], [0, 1]])
    np.testing.assert_allclose(HardVote((3, 1), head="sigmoid")(members), [[0.75, 0.25], [0, 1]])
