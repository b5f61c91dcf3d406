"""One round of AdaBoost by hand."""

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.ensemble.serial.reweighting import Reweighting

X = np.eye(3, dtype="float32")[[0, 1, 2, 0, 1, 2, 0, 1]]
Y = np.array([0, 1, 2, 0, 1, 2, 1, 0])  # the last two are wrong for the identity
DATA = Data(train=(X, Y))


def identity():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False)])
    model.set_weights([np.eye(3) * 5])
    return model


def test_wrong_rows_weigh_more():
    rounds = Reweighting(DATA, 0.5)
    np.testing.assert_allclose(rounds.data().train.sample_weight, 1)
    assert rounds.take(identity()) and not rounds.ended
    share = 0.5 * (np.log(0.75 / 0.25) + np.log(2))
    assert rounds.shares == [pytest.approx(share)] and rounds.rows[0]["error"] == pytest.approx(0.25)
    weights = np.where(np.arange(8) < 6, 1, np.exp(share))
    np.testing.assert_allclose(rounds.weights, weights / weights.sum())
    assert rounds.data().train.sample_weight.mean() == pytest.approx(1, rel=1e-6)
    assert rounds.combiner().get_config()["weights"] == tuple(rounds.shares)
