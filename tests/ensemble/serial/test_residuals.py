"""Targets of gradient boosting by hand."""

import keras
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

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


def fixed(values):
    """A model whose outputs for `X` are these: a lookup by the nearest row."""
    inside = keras.layers.Lambda(lambda x: keras.ops.take(values, keras.ops.argmax(x @ X.T - (X**2).sum(-1) / 2, axis=-1), axis=0))
    return keras.Sequential([keras.Input((2,)), inside])


def numeric(loss):
    """Slope over curvature at 0 by differences."""
    low, here, high = (loss(share) for share in (-1e-3, 0.0, 1e-3))
    return -((high - low) / 2e-3) / ((high - 2 * here + low) / 1e-6)


def test_the_step_is_newtons():
    labels, step = np.arange(12) % 3, np.random.default_rng(1).normal(size=(12, 3)).astype("float32")
    step += np.eye(3, dtype="float32")[labels]
    rounds = Residuals(Data(train=(X, labels)), "logits", 0.5)
    rounds.take(fixed(step))
    hot = np.eye(3)[labels]
    want = numeric(lambda share: -(hot * log_softmax(rounds.start + share * step.astype("float64"), axis=-1)).sum(-1).mean())
    assert rounds.shares == [pytest.approx(0.5 * want, rel=1e-3)]
    yes, column = (labels == 0).astype(int)[:, None], step[:, :1]
    rounds = Residuals(Data(train=(X, yes)), "logits", 1.0)
    rounds.take(fixed(column))
    want = numeric(lambda share: (np.logaddexp(0, rounds.start + share * column) - yes * (rounds.start + share * column)).mean())
    assert rounds.shares == [pytest.approx(want, rel=1e-3)]


def test_a_member_that_separates_all_rows_has_a_step_that_ends():
    yes = (np.arange(12) % 2)[:, None]
    rounds = Residuals(Data(train=(X, yes)), "logits", 1.0)
    rounds.take(fixed((yes - 0.5).astype("float32")))
    assert rounds.shares == [pytest.approx(4.0)] and 0 < rounds.rows[0]["loss"] < rounds.rows[0]["loss before"]


def test_a_step_never_makes_the_loss_larger():
    labels = np.arange(12) % 3
    for seed in range(4):
        rounds = Residuals(Data(train=(X, labels)), "logits", 1.0)
        rounds.take(fixed((np.eye(3)[labels] - 1 / 3).astype("float32") * 3))
        rounds.take(fixed(np.random.default_rng(seed).standard_cauchy(size=(12, 3)).astype("float32")))
        assert rounds.rows[1]["loss"] <= rounds.rows[1]["loss before"]


def test_a_validation_split_has_residuals_of_its_own():
    y = X[:, :1] + 3
    rounds = Residuals(Data(train=(X, y), validation=(X[:4], y[:4] + 1)), "regression", 1.0)
    np.testing.assert_allclose(rounds.data().validation.y, y[:4] + 1 - y.mean(), atol=1e-6)
    rounds.take(fixed((y - y.mean()).astype("float32")))
    np.testing.assert_allclose(rounds.data().validation.y, 1, atol=1e-5)
    np.testing.assert_allclose(rounds.data().train.y, 0, atol=1e-5)
