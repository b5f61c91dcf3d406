"""Boost on real digits, with scikit-learn's AdaBoost as the oracle."""

import functools

import keras
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import AdaBoostClassifier

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.ensemble.serial.boost import Boost
from kdfuse.fitting.stopping import Stopping
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.models.mlp import mlp
from kdfuse.train import Train

L = keras.layers
DIGITS = load("digits", labels=300)
X, Y, _ = DIGITS.train.head(10**6)
X_TEST, Y_TEST, _ = DIGITS.test.head(300)
FAST = Train(epochs=3, optimizer="sgd", learning_rate=0.1, steps_per_execution=1, checkpoint=0)


def members_of(boosted):
    return [layer for layer in boosted.layers if isinstance(layer, keras.Model)]


class Told(ClassifierMixin, BaseEstimator):
    """A trained Keras model, in the order of `models`, whatever it is fitted on."""

    models: tuple = ()
    count = 0

    def fit(self, x, y, sample_weight=None):
        self.classes_, self.model = np.unique(y), Told.models[Told.count]
        Told.count += 1
        return self

    def predict(self, x):
        return np.asarray(self.model(x.reshape(-1, 8, 8, 1))).argmax(-1)


class Yes:
    """A model of one column as one of two."""

    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        yes = np.asarray(self.model(x))
        return np.concatenate([1 - yes, yes], axis=-1)


def scikit(models, rate, weights=None):
    Told.models, Told.count = tuple(models), 0
    return AdaBoostClassifier(Told(), n_estimators=len(models), learning_rate=rate).fit(X.reshape(len(X), -1), Y, weights)


def test_scikit_learn_has_the_same_weights_decisions_and_probabilities():
    rate = 0.5
    boosted, report = Boost(members=3, learning_rate=rate, training=FAST)(functools.partial(mlp, units=(8,)), DIGITS)
    models = members_of(boosted)
    oracle = scikit(models, rate)
    rows = report.tables["boosting"]
    np.testing.assert_allclose([row["weight"] for row in rows], oracle.estimator_weights_, rtol=1e-6)
    np.testing.assert_allclose([row["error"] for row in rows], oracle.estimator_errors_, rtol=1e-6)
    flat = X_TEST.reshape(len(X_TEST), -1)
    np.testing.assert_allclose(boosted(X_TEST), oracle.predict_proba(flat), atol=1e-5)
    np.testing.assert_array_equal(np.asarray(boosted(X_TEST)).argmax(-1), oracle.predict(flat))
    assert [row["model"] for row in report.rows()][:2] == ["ensemble", "member 1"] and report.metrics["boost/members"] == 3


def test_of_one_column_too():
    odd = (Y % 2)[:, None]
    data = Data(train=(X, odd), validation=(X, odd))
    keras.utils.set_random_seed(0)
    column = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(4, "relu"), L.Dense(1, "sigmoid")])
    boosted, report = Boost(members=2, training=FAST)(column, data)
    models = [Yes(one) for one in members_of(boosted)]
    Told.models, Told.count = tuple(models), 0
    oracle = AdaBoostClassifier(Told(), n_estimators=len(models)).fit(X.reshape(len(X), -1), odd[:, 0])
    np.testing.assert_allclose([row["weight"] for row in report.tables["boosting"]], oracle.estimator_weights_, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(boosted(X))[:, 0], oracle.predict_proba(X.reshape(len(X), -1))[:, 1], atol=1e-5)


def test_the_own_weights_of_the_rows_are_those_of_the_first_round():
    weights = np.random.default_rng(0).random(len(X)).astype("float32")
    data = DIGITS.with_splits(train=(X, Y, weights))
    boosted, report = Boost(members=2, training=FAST)(mlp(data, units=(8,)), data)
    oracle = scikit(members_of(boosted), 1.0, weights)
    np.testing.assert_allclose([row["error"] for row in report.tables["boosting"]], oracle.estimator_errors_, rtol=1e-5)


def test_it_ends_at_a_perfect_member_and_refuses_chance():
    x = np.concatenate([np.full((40, 2), -1.0), np.full((40, 2), 1.0)]).astype("float32")
    data = Data(train=(x, np.repeat([0, 1], 40)))
    given = mlp(data, units=())
    before = fingerprint(given)
    _, report = Boost(members=4, training=Train(epochs=30, learning_rate=0.1))(given, data)
    assert report.metrics["boost/members"] == 1 and "makes no error" in " ".join(report.notes) and fingerprint(given) == before
    noise = Data(train=(np.zeros((80, 2), "float32"), np.repeat([0, 1], 40)))
    with pytest.raises(ValueError, match="`training` of Boost: the first member is no better than chance"):
        Boost(members=2, training=Train(epochs=1))(mlp(noise, units=()), noise)


def test_residuals_of_values_are_fitted_one_after_another():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype("float32")
    y = (np.sin(2 * x[:, :1]) + x[:, 1:2]).astype("float32") + 5
    data = Data(train=(x, y), validation=(x[:50], y[:50]), test=(x[:50], y[:50]))
    boosted, report = Boost(members=3, how="residual", training=Train(epochs=8, learning_rate=0.01))(mlp(data, units=(8,)), data)
    rows, models = report.tables["boosting"], members_of(boosted)
    total, losses = np.full_like(y, y.mean(), dtype="float64"), []
    for row, model in zip(rows, models, strict=True):
        step = np.asarray(model(x), "float64")
        best = float((step * (y - total)).sum() / (step**2).sum())
        assert row["weight"] == pytest.approx(best, rel=1e-3) and row["loss before"] == pytest.approx(np.mean((y - total) ** 2), rel=1e-4)
        total += row["weight"] * step
        losses.append(row["loss"])
    np.testing.assert_allclose(boosted(x), total, rtol=1e-4, atol=1e-4)
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.9 * rows[0]["loss before"]


def test_residuals_of_classes_lower_the_log_loss():
    half = Boost(members=2, how="residual", learning_rate=0.5, training=FAST)
    boosted, report = half(mlp(DIGITS, units=(8,)), DIGITS)
    rows = report.tables["boosting"]
    assert rows[0]["loss before"] > rows[0]["loss"] > rows[1]["loss"]
    truth = np.eye(10)[Y]
    start = np.log(truth.mean(0))
    assert rows[0]["loss before"] == pytest.approx(-(truth * start).sum(-1).mean(), rel=1e-5)
    want = start + sum(row["weight"] * np.asarray(model(X_TEST)) for row, model in zip(rows, members_of(boosted), strict=True))
    np.testing.assert_allclose(boosted(X_TEST), want, rtol=1e-4, atol=1e-5)


def test_members_of_residuals_stop_on_the_validation_split():
    training = Train(epochs=2, learning_rate=0.003, checkpoint=0, head="logits", stopping=Stopping())
    given = mlp(DIGITS, units=(8,))
    given.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))  # not the loss of residuals
    _, report = Boost(members=2, how="residual", training=training)(given, DIGITS)
    assert "validation/loss" in report.children[0].history
    rows = report.tables["boosting"]
    assert rows[1]["loss"] < rows[0]["loss"] < rows[0]["loss before"]


class Seen(keras.losses.Loss):
    def call(self, y_true, y_pred):
        raise RuntimeError("the loss of the model")


def test_members_of_samme_have_the_loss_of_the_model():
    given = mlp(DIGITS, units=(8,))
    given.compile("adam", Seen())
    with pytest.raises(RuntimeError, match="the loss of the model"):
        Boost(members=2, training=FAST)(given, DIGITS)


def test_what_cannot_be_is_said_before():
    for wrong in ({"members": 1}, {"how": "magic"}, {"learning_rate": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
            Boost(**wrong)
    line = Data(train=(X.reshape(len(X), -1), Y.astype("float32")[:, None] + 0.5))
    with pytest.raises(ValueError, match="`how`: expected 'residual' for a regression"):
        Boost()(mlp(line, units=()), line)
    soft = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(10, "softmax")])
    with pytest.raises(ValueError, match="expected one that gives logits or values, for how='residual'. Received: the head softmax"):
        Boost(how="residual")(soft, DIGITS)
    with pytest.raises(ValueError, match="`training`: expected loss='auto'"):
        Boost(how="residual", training=Train(loss=keras.losses.Huber()))
    with pytest.raises(ValueError, match="`class_weight`"):
        Boost(how="residual", training=Train(class_weight="balanced"))(mlp(DIGITS, units=()), DIGITS)
    steps = Data(train=(X[..., 0], np.stack([Y] * 8, 1)), task="classification", class_names=[str(one) for one in range(10)])
    with pytest.raises(ValueError, match="`model` of Boost: expected outputs of shape .rows, columns.*8, 10"):
        Boost()(keras.Sequential([keras.Input((8, 8)), L.Dense(10)]), steps)
