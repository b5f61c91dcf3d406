"""Targets of gradient boosting by hand."""

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax

from kdfuse.data import Data
from kdfuse.ensemble.serial.residuals import Residuals

X = np.random.default_rng(0).normal(size=(12, 2)).astype("float32")


def constant(*values):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(len(values))])
    model.set_weights([np.zeros((2, len(values))), np.array(values)])
    return model


def test_values():
    y = X[:, :1] + 3
    rounds = Residuals(Data(train=(X, y)), "regression", 1.0)
    np.testing.assert_allclose(rounds.data().train.y, y - y.mean(), atol=1e-6)
    rounds.take(constant(1.0))
    assert rounds.shares == [pytest.approx(0, abs=1e-3)] and rounds.rows[0]["loss"] == pytest.approx(np.var(y), rel=1e-4)


def test_classes_and_columns():
    labels = np.arange(12) % 3
    weights = np.linspace(1, 2, 12).astype("float32")
    rounds = Residuals(Data(train=(X, labels, weights)), "logits", 1.0)
    shares = np.array([weights[labels == one].sum() for one in range(3)]) / weights.sum()
    np.testing.assert_allclose(softmax(rounds.start), shares, rtol=1e-6)
    np.testing.assert_allclose(rounds.data().train.y, np.eye(3)[labels] - shares, atol=1e-6)
    np.testing.assert_allclose(rounds.data().train.sample_weight, weights)
    yes = (labels == 0).astype(int)[:, None]
    rounds = Residuals(Data(train=(X, yes)), "logits", 1.0)
    np.testing.assert_allclose(expit(rounds.start), [1 / 3], rtol=1e-6)
    np.testing.assert_allclose(rounds.data().train.y, yes - 1 / 3, atol=1e-6)
