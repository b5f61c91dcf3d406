"""Stack against scikit-learn's StackingClassifier and StackingRegressor, its settings, what it can be put into."""

import keras
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.distill.distill import Distill
from kdfuse.ensemble.members import take
from kdfuse.ensemble.mixed.features import features_of
from kdfuse.ensemble.mixed.stack import Stack
from kdfuse.models.mlp import mlp
from kdfuse.settings import settings
from kdfuse.technique import Technique
from kdfuse.train import Fitted, Train

DIGITS = load("digits", labels=120)
X, Y, _ = DIGITS.train.head(120)
X_VALID, Y_VALID, _ = DIGITS.validation.head(120)
X_TEST = DIGITS.test.head(200)[0]
DATA = DIGITS.with_splits(validation=(X_VALID, Y_VALID))
FLAT = {name: x.reshape(-1, 64).astype("float64") for name, x in (("x", X), ("valid", X_VALID), ("test", X_TEST))}
STRENGTHS = {"weak": 0.003, "strong": 1.0}
FAST = Train(epochs=2, optimizer="sgd", learning_rate=0.5, steps_per_execution=1, checkpoint=0)
L = keras.layers


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(1):  # small matrices: more threads wait for each other
        yield


def regression(name):
    return LogisticRegression(C=STRENGTHS[name], max_iter=200)


def set_last(model, fitted):
    kernel, bias = np.reshape(fitted.coef_, (-1, fitted.coef_.shape[-1])).T, np.reshape(fitted.intercept_, -1)
    model.layers[-1].set_weights([kernel, bias])


def net(name, activation="softmax", units=10, shape=(8, 8, 1)):
    keras.utils.set_random_seed(len(name))
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(units, activation)], name=name)


@settings
class Exact(Technique):
    """A trainer of models with one dense layer, by scikit-learn: equal to what its own stacking fits."""

    training: Train = Train()

    def private(self, model, data):
        return model

    def fit(self, model, data, callbacks=()):
        rows = data.train.x.reshape(len(data.train), -1).astype("float64")
        trainer = Ridge(alpha=1 / STRENGTHS[model.name]) if data.task == "regression" else regression(model.name)
        set_last(model, trainer.fit(rows, data.train.y, sample_weight=data.train.weights()))
        return Fitted({}, [])

    def public(self, model, data):
        return model


def members():
    made = [net("weak"), net("strong", None)]
    for model in made:
        set_last(model, regression(model.name).fit(FLAT["x"], Y))
    return made


MEMBERS = members()


class Prefit(ClassifierMixin, BaseEstimator):
    def __init__(self, model=None):
        self.model, self.classes_ = model, np.arange(10)

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        values = np.asarray(self.model(x.reshape(-1, 8, 8, 1)), "float64")
        grown = np.exp(values - values.max(1, keepdims=True))
        return values if self.model.name == "weak" else grown / grown.sum(1, keepdims=True)


def stacked(stack, models=MEMBERS, data=DATA):
    stack.check(models, data)
    return stack.apply(models, data)


def meta(C=1.0):
    return LogisticRegression(C=C, max_iter=10_000, tol=1e-8)


@pytest.mark.parametrize(("C", "passthrough", "folds", "seed"), [(1.0, False, 3, 0), (5.0, True, 3, 1), (0.2, False, 2, 1)])
def test_folds_give_the_predictions_of_scikit_learn(C, passthrough, folds, seed):
    result = stacked(Stack(folds=folds, training=Exact(), C=C, passthrough=passthrough, seed=seed))
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    pairs = [(name, regression(name)) for name in STRENGTHS]
    peer = StackingClassifier(pairs, meta(C), cv=cut, passthrough=passthrough).fit(FLAT["x"], Y)
    np.testing.assert_allclose(result.model(X_TEST), peer.predict_proba(FLAT["test"]), atol=2e-5)
    rows = result.tables["stack"]
    assert [row["model"] for row in rows] == ["1: weak", "2: strong"] and f"{folds} folds" in result.notes[0]
    chances = np.zeros((len(X), 10))
    for kept, held in cut.split(FLAT["x"], Y):
        chances[held] = regression("weak").fit(FLAT["x"][kept], Y[kept]).predict_proba(FLAT["x"][held])
    assert rows[0]["accuracy"] == pytest.approx(np.mean(chances.argmax(1) == Y))
    assert rows[0]["log_loss"] == pytest.approx(log_loss(Y, chances), rel=1e-4)


@pytest.mark.parametrize("passthrough", [False, True])
def test_members_as_they_are_give_the_predictions_of_scikit_learn(passthrough):
    result = stacked(Stack(folds=None, passthrough=passthrough))
    pairs = [(model.name, Prefit(model)) for model in MEMBERS]
    peer = StackingClassifier(pairs, meta(), cv="prefit", passthrough=passthrough).fit(FLAT["valid"], Y_VALID)
    np.testing.assert_allclose(result.model(X_TEST), peer.predict_proba(FLAT["test"]), atol=2e-5)
    assert "validation rows" in result.notes[0]


def test_logits_weights_and_a_stream():
    logits = stacked(Stack(folds=None, scale="logits"))
    columns = [np.log(np.asarray(MEMBERS[0](X_VALID))), np.asarray(MEMBERS[1](X_VALID))]
    peer = meta().fit(np.concatenate(columns, 1).astype("float64"), Y_VALID)
    given = np.concatenate([np.log(np.asarray(MEMBERS[0](X_TEST))), np.asarray(MEMBERS[1](X_TEST))], 1)
    np.testing.assert_allclose(logits.model(X_TEST), peer.predict_proba(given), atol=2e-5)
    plain = stacked(Stack(folds=None))
    for row, other in zip(logits.tables["stack"], plain.tables["stack"], strict=True):
        assert [row[name] for name in ("accuracy", "log_loss")] == pytest.approx([other["accuracy"], other["log_loss"]], rel=1e-4)

    weights = np.linspace(0, 1, len(Y_VALID))
    weighted = stacked(Stack(folds=None), data=DATA.with_splits(validation=(X_VALID, Y_VALID, weights)))
    features = features_of(take(MEMBERS, DATA), DATA, "probabilities", False).model
    peer = meta().fit(np.array(features(X_VALID), "float64"), Y_VALID, sample_weight=weights)
    np.testing.assert_allclose(weighted.model(X_TEST), peer.predict_proba(features(X_TEST)), atol=2e-5)

    import tensorflow as tf

    stream = tf.data.Dataset.from_tensor_slices((X_VALID, Y_VALID)).shuffle(200, seed=1).batch(64)
    streamed = stacked(Stack(folds=None), data=DATA.with_splits(validation=stream))
    np.testing.assert_allclose(streamed.model(X_TEST), plain.model(X_TEST), atol=1e-4)


def test_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5)).astype("float32")
    y = (np.sin(x).sum(1, keepdims=True) + rng.normal(size=(90, 1))).astype("float32")
    data = Data(train=(x[:60], y[:60]), test=(x[60:], y[60:]))
    models = [net(name, None, 1, (5,)) for name in STRENGTHS]
    for model in models:
        set_last(model, Ridge(alpha=1 / STRENGTHS[model.name]).fit(x[:60], y[:60]))
    result = stacked(Stack(folds=3, training=Exact(), C=0.1), models, data)
    pairs = [(name, Ridge(alpha=1 / strength)) for name, strength in STRENGTHS.items()]
    peer = StackingRegressor(pairs, Ridge(alpha=10), cv=KFold(3, shuffle=True, random_state=0)).fit(x[:60], y[:60, 0])
    np.testing.assert_allclose(result.model(x[60:])[:, 0], peer.predict(x[60:]), atol=1e-4)
    assert set(result.tables["stack"][0]) == {"model", "mae", "rmse"}


def test_several_outputs_each_see_all_predictions():
    def two(seed):
        keras.utils.set_random_seed(seed)
        given = keras.Input((8, 8, 1))
        x = L.Flatten()(given)
        return keras.Model(given, {"digit": L.Dense(10)(x), "big": L.Dense(1, "sigmoid")(x)}, name="two")

    models, big = [two(0), two(1)], (Y_VALID > 4).astype("float32")[:, None]
    labels = {"digit": Y_VALID, "big": big}
    data = Data(train=(X_VALID, labels), validation=(X_VALID, labels))
    result = stacked(Stack(folds=None), models, data)
    features = features_of(take(models, data), data, "probabilities", False).model
    found = result.model(X_TEST)
    np.testing.assert_allclose(
        found["digit"], meta().fit(np.array(features(X_VALID), "float64"), Y_VALID).predict_proba(features(X_TEST)), atol=2e-4
    )
    np.testing.assert_allclose(
        found["big"], meta().fit(np.array(features(X_VALID), "float64"), big[:, 0]).predict_proba(features(X_TEST))[:, 1:], atol=2e-4
    )
    assert {"digit/accuracy", "big/log_loss", "accuracy"} <= set(result.tables["stack"][0])


def test_a_builder_as_meta_a_stack_in_a_stack_and_its_file(tmp_path):
    result = stacked(Stack(lambda data: mlp(data, units=(8,)), folds=None, meta_training=FAST))
    assert len(result.history["train/loss"]) == 2 and result.baselines[MEMBERS[1].name] is MEMBERS[1]
    found = np.asarray(result.model(X_TEST))
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    logits = result.model.get_layer("mlp")(features_of(take(MEMBERS, DATA), DATA, "probabilities", False).model(X_TEST))
    np.testing.assert_allclose(found, keras.ops.softmax(logits), atol=1e-5)

    nested = stacked(Stack(folds=None), [MEMBERS[0], result.model]).model
    nested.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(X_TEST), nested(X_TEST))
    Distill(nested, training=FAST).check(net("student", None), DATA)


@pytest.mark.slow
def test_the_report():
    _, report = Stack(folds=None)(MEMBERS, DATA)
    assert [row["model"] for row in report.rows()] == ["ensemble", *(one.name for one in MEMBERS)] and len(report.tables["stack"]) == 2


def test_members_are_trained_anew_in_the_folds_and_stay_as_given():
    inner = stacked(Stack(folds=None)).model
    before = [one.get_weights() for one in (MEMBERS[0], inner)]
    data = DATA.with_splits(validation=None)
    result = stacked(Stack(folds=2, training=FAST), [MEMBERS[0], inner], data)
    rows = result.tables["stack"]
    assert 0.15 < rows[0]["accuracy"] < 1 and rows[1]["model"] == "2: stack"
    for model, weights in zip((MEMBERS[0], inner), before, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    inside = result.model.get_layer("weak")
    assert all(np.array_equal(a, b) for a, b in zip(inside.get_weights(), before[0], strict=True))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"meta": "linear"}, ValueError, "`meta`"),
        ({"meta": 3}, TypeError, "`meta`: expected 'logistic' or a builder"),
        ({"folds": 1}, ValueError, "`folds`: expected an integer of at least 2"),
        ({"folds": True}, ValueError, "`folds`"),
        ({"training": 3}, TypeError, "`training`"),
        ({"folds": None, "training": FAST}, ValueError, "`training`: expected None with folds=None"),
        ({"meta_training": FAST}, ValueError, "`meta_training`: expected None with meta='logistic'"),
        ({"meta": mlp, "meta_training": 3}, TypeError, "training`"),
        ({"meta": mlp, "C": 2.0}, ValueError, "`C`: expected 1.0 with a builder"),
        ({"C": 0}, ValueError, "`C`: expected a number above 0"),
        ({"passthrough": 1}, ValueError, "`passthrough`: expected True or False"),
        ({"scale": "odds"}, ValueError, "`scale`"),
        ({"seed": -1}, ValueError, "`seed`"),
    ],
)
def test_settings_that_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        Stack(**given)


def test_models_and_data_that_are_refused():
    with pytest.raises(ValueError, match="`data` of Stack: expected a validation split"):
        Stack(folds=None).check(MEMBERS, DATA.with_splits(validation=None))
    with pytest.raises(ValueError, match="`folds`: expected two rows or more in each"):
        Stack(folds=100).check(MEMBERS, DATA)
    stream = DATA.with_splits(train=DATA.train.dataset(50))
    with pytest.raises(ValueError, match="`folds`: expected None for a stream"):
        Stack().check(MEMBERS, stream)
    fixed = net("weak")
    fixed.trainable = False
    with pytest.raises(ValueError, match="member 2 .'weak'. cannot be trained anew in the folds. Give folds=None"):
        Stack().check([MEMBERS[1], fixed], DATA)
    with pytest.raises(ValueError, match="`meta`: the model that the builder made does not fit"):
        Stack(lambda data: net("meta", units=3, shape=data.input_shape), folds=None).check(MEMBERS, DATA)
    with pytest.raises(TypeError, match="made by the builder `meta`"):
        Stack(lambda data: 3, folds=None).check(MEMBERS, DATA)
    unlabelled = Data(train=(X, None), validation=(X_VALID, Y_VALID), class_names=[str(one) for one in range(10)])
    with pytest.raises(ValueError, match="have no labels"):
        Stack().check(MEMBERS, unlabelled)
