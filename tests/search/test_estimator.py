import pickle
import warnings

import joblib
import keras
import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import AdaBoostClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from kdfuse import recording
from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.fitting.stopping import Stopping
from kdfuse.graph.copy import copy_model
from kdfuse.models.convnet import convnet
from kdfuse.models.mlp import mlp
from kdfuse.search.estimator import KerasClassifier, KerasRegressor
from kdfuse.settings import settings
from kdfuse.technique import Chain, Result, Technique
from kdfuse.train import Train

X, Y = load_digits(return_X_y=True)
X, Y = X[:600] / 16, Y[:600]
QUICK = Train(epochs=12, batch_size=60, learning_rate=0.02, steps_per_execution=1, checkpoint=0)


@settings
class LeastSquares(Technique):
    """Sets a linear model by ridge regression: a technique that costs no tracing."""

    ridge: float = 3.0
    seed: int = 0

    def apply(self, model, data):
        x, y, weights = data.train.head(10**6)
        x = np.hstack([x.reshape(len(x), -1), np.ones((len(x), 1))]).astype("float64")
        goal = np.eye(data.classes)[y] * 10 - 5 if data.task == "classification" else y.reshape(len(y), -1)
        share = np.ones(len(x)) if weights is None else weights
        solved = np.linalg.solve(x.T @ (share[:, None] * x) + self.ridge * np.eye(x.shape[1]), x.T @ (share[:, None] * goal))
        made = copy_model(model)
        made.set_weights([solved[:-1], solved[-1]])
        return Result(made)


def linear(**arguments):
    return KerasClassifier(technique=LeastSquares(), build__units=(), **arguments)


@pytest.fixture(scope="module")
def trained():
    words = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    clf = KerasClassifier(training=QUICK, validation=0.2, build__units=(32,), training__epochs=14, random_state=1)
    with recording.silence():
        return clf.fit(X[:400], words[Y[:400]]), words


def test_a_classifier_of_words(trained):
    clf, words = trained
    assert clf.score(X[400:], words[Y[400:]]) > 0.85
    assert list(clf.classes_) == sorted(words) and clf.n_features_in_ == 64 and clf.input_shape_ == (64,)
    chances = clf.predict_proba(X[400:])
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)
    assert (clf.classes_[chances.argmax(axis=1)] == clf.predict(X[400:])).all()
    logits = np.asarray(clf.model_(X[400:].astype("float32")))
    np.testing.assert_allclose(chances, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6)
    assert isinstance(clf.model_, keras.Model) and len(clf.history_["train/loss"]) == 14
    assert clf.report_["validation/accuracy"] > 0.8 and clf.report_.settings["seed"] == 1 and clf.report_.name == "KerasClassifier"


def test_a_fitted_one_survives_pickle_and_joblib(trained, tmp_path):
    clf, _ = trained
    joblib.dump(clf, tmp_path / "clf.joblib")
    for again in (pickle.loads(pickle.dumps(clf)), joblib.load(tmp_path / "clf.joblib")):
        np.testing.assert_array_equal(again.predict_proba(X[:50]), clf.predict_proba(X[:50]))
        assert again.report_.metrics == clf.report_.metrics and again.get_params(deep=False)["build__units"] == (32,)


def test_a_row_is_predicted_the_same_alone_and_among_others(trained):
    clf, _ = trained
    whole = clf.predict_proba(X)
    for rows in ([7], [599, 3], range(1, 20), range(100, 433)):
        np.testing.assert_array_equal(clf.predict_proba(X[rows]), whole[rows])


def test_rows_of_another_shape_are_refused(trained):
    clf, _ = trained
    with pytest.raises(ValueError, match="64 features"):
        clf.predict(X[:, :30])
    images = linear().fit(X.reshape(-1, 8, 8, 1), Y)
    with pytest.raises(ValueError, match=r"rows of shape \(8, 8, 1\).*Received: \(8, 4, 1\)"):
        images.predict(X[:, :32].reshape(-1, 8, 4, 1))


def test_a_student_is_distilled_by_name():
    teacher = linear().fit(X[:400], Y[:400]).model_
    clf = KerasClassifier(mlp, Distill(teacher, losses=[SoftTargets(4.0)], training=QUICK), build__units=(24,))
    clf.set_params(technique__losses__0__temperature=2.0, training__epochs=10)
    clf.fit(X[:400], Y[:400])
    assert clf.report_.technique == "Distill" and "kd/agreement" not in clf.report_.metrics
    assert clf.report_.settings["losses__0__temperature"] == 2.0 and clf.report_.settings["training__epochs"] == 10
    assert clf.score(X[400:], Y[400:]) > 0.8


def test_names_reach_every_setting_and_a_clone_is_exact():
    teacher = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    stopping = Stopping(patience=2)
    technique = Distill(teacher, losses=[SoftTargets(3.0)])
    clf = KerasClassifier(convnet, technique, Train(epochs=5), random_state=3, build__filters=(4,), training__stopping=stopping)
    params = clf.get_params()
    assert params["build__filters"] == (4,) and params["build__dropout"] == 0.0 and params["training__epochs"] == 5
    assert params["technique__teacher"] is teacher and params["technique__losses__0__temperature"] == 3.0
    assert params["training__stopping"] is stopping and params["training__stopping__patience"] == 2
    assert not any(name.startswith("technique__training") for name in params)
    twin = clone(clone(clf))
    assert twin.get_params() == params and twin is not clf
    assert set(clf.get_params(deep=False)) == {
        "build", "technique", "training", "validation", "random_state", "build__filters", "training__stopping"
    }  # fmt: skip
    assert "build__filters=(4,)" in repr(clf)
    assert clone(Distill(teacher), safe=False).teacher is teacher


def test_a_training_as_the_technique_has_the_names_of_a_training():
    clf = KerasClassifier(technique=Train(epochs=3), training__batch_size=7)
    assert clf.get_params()["training__epochs"] == 3 and clf.get_params()["training__batch_size"] == 7
    with pytest.raises(ValueError, match="'technique__epochs'.*'training__epochs'"):
        clf.set_params(technique__epochs=4)


def test_set_params_of_a_part_of_a_value_and_of_a_whole():
    clf = KerasClassifier(training__stopping=Stopping(patience=2))
    clf.set_params(training__stopping__patience=7)
    assert clf.get_params()["training__stopping"].patience == 7
    clf.set_params(training=Train(epochs=3))
    assert clf.get_params(deep=False)["training"].epochs == 3 and "training__stopping" not in clf.get_params(deep=False)
    clf.set_params(build__dropout=0.5, build__input_dropout=0.1).set_params(build=convnet)
    assert {name for name in clf.get_params(deep=False) if name.startswith("build__")} == {"build__dropout"}
    clf.set_params(build=mlp, build__units=(9,), training__l2=0.1)
    assert clf.get_params()["build__units"] == (9,) and clf.get_params()["training__l2"] == 0.1


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("build__unit", "build__units"),
        ("trainin", "training"),
        ("training__epoch", "training__epochs"),
        ("technique__label_weigt", "technique__label_weight"),
    ],
)
def test_an_unknown_name_raises_with_the_near_ones(name, near):
    teacher = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    with pytest.raises(TypeError, match=f"no setting '{name}'.*'{near}'"):
        KerasClassifier(technique=Distill(teacher), **{name: 1})
    clf = KerasClassifier(technique=Distill(teacher))
    before = clf.get_params()
    with pytest.raises(ValueError, match=f"no setting '{name}'.*'{near}'"):
        clf.set_params(validation=0.5, **{name: 1})
    assert clf.get_params() == before


def test_parts_that_do_not_fit_are_refused_at_fit():
    with pytest.raises(TypeError, match="`technique`: expected a technique.*Received: 3"):
        KerasClassifier(technique=3).fit(X, Y)
    with pytest.raises(TypeError, match="`build` of KerasClassifier: expected a builder.*Received: 3"):
        KerasClassifier(build=3, technique=LeastSquares()).fit(X, Y)
    with pytest.raises(TypeError, match="`training`: LeastSquares has no setting `training`"):
        KerasClassifier(technique=LeastSquares(), training=QUICK).fit(X, Y)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    with pytest.raises(TypeError, match="'build__units': `build` is Sequential, which takes none"):
        KerasClassifier(build=model, build__units=3)


def test_a_technique_of_several_models_is_refused():
    @settings
    class Twins(Technique):
        gives_models = True

        def apply(self, model, data):
            return Result((copy_model(model), copy_model(model)))

    with pytest.raises(TypeError, match=r"expected one that gives one model. Received: Twins.*Chain\(\[Twins"):
        KerasClassifier(technique=Twins(), build__units=()).fit(X, Y)


def test_the_seed_reaches_builder_and_technique():
    seen = []

    def net(data, seed=7):
        seen.append(seed)
        return mlp(data, units=(), seed=seed)

    clf = KerasClassifier(net, Chain([LeastSquares()]), random_state=5).fit(X, Y)
    assert seen == [5] and clf.report_.settings["techniques__0__seed"] == 5
    clf.set_params(random_state=None).fit(X, Y)
    assert seen == [5, 7] and clf.report_.settings["techniques__0__seed"] == 0
    clf.set_params(random_state=np.random.RandomState(0), build__seed=4).fit(X, Y)
    assert seen[2] == 4 and clf.report_.settings["techniques__0__seed"] == np.random.RandomState(0).randint(2**31 - 1)


def test_a_builder_without_a_seed_is_seeded_too():
    def net(data):
        return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(data.classes)])

    @settings
    class Same(Technique):
        def apply(self, model, data):
            return Result(copy_model(model))

    one, two, other = (KerasClassifier(net, Same(), random_state=seed).fit(X, Y).predict_proba(X[:5]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, other)


def test_a_given_model_is_where_every_fit_begins():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    before = model.get_weights()
    clf = clone(KerasClassifier(model, LeastSquares()))
    assert clf.build is model
    clf.fit(X, Y)
    assert clf.model_ is not model and all((one == two).all() for one, two in zip(before, model.get_weights(), strict=True))


def test_labels_with_gaps_two_classes_and_a_sigmoid():
    clf = linear().fit(X, Y * 10 - 7)
    assert list(clf.classes_) == list(range(-7, 84, 10)) and clf.score(X, Y * 10 - 7) > 0.9
    two = linear().fit(X, Y > 4)
    assert list(two.classes_) == [False, True] and two.predict(X).dtype == bool and two.predict_proba(X).shape == (len(X), 2)

    def one_column(data):
        return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(1, "sigmoid")])

    @settings
    class Same(Technique):
        def apply(self, model, data):
            return Result(copy_model(model))

    clf = KerasClassifier(one_column, Same()).fit(X, np.where(Y > 4, "yes", "no"))
    second = np.asarray(clf.model_(X[:20].astype("float32")))[:, 0]
    np.testing.assert_allclose(clf.predict_proba(X[:20]), np.stack([1 - second, second], axis=1), atol=1e-6)


def test_many_labels_at_once():
    y = np.stack([Y > 4, Y % 2, Y == 0], axis=1).astype(int)
    clf = linear().fit(X, y)
    assert clf.predict(X).shape == y.shape and clf.predict_proba(X).max() <= 1 and list(clf.classes_) == [0, 1, 2]
    chances = np.asarray(clf.model_(X.astype("float32")))
    np.testing.assert_array_equal(clf.predict(X), chances > 0.5)  # the builder's head is a sigmoid


def test_one_class_is_nothing_to_learn():
    with pytest.raises(ValueError, match="two classes.*one class. There"):
        linear().fit(X, np.ones(len(X)))
    with pytest.raises(ValueError, match="one class among the rows whose weight"):
        linear().fit(X, Y, sample_weight=Y == 3)


def test_only_ratios_of_weights_count():
    weights = np.random.default_rng(0).uniform(size=len(X))
    one, two, plain = (linear().fit(X, Y, sample_weight=given).predict_proba(X) for given in (weights, 1e-6 * weights, None))
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert np.abs(one - plain).max() > 1e-3


def test_regressors_of_one_and_of_several_values():
    x, y = load_diabetes(return_X_y=True)
    x, y = x * 20, (y - y.mean()) / y.std()
    reg = KerasRegressor(technique=LeastSquares(1e-3), build__units=())
    assert is_regressor(reg) and not is_classifier(reg)
    assert reg.fit(x, y).predict(x).shape == y.shape and reg.score(x, y) == pytest.approx(0.5177, abs=1e-3)
    both = reg.fit(x, np.stack([y, -y], axis=1)).predict(x)
    assert both.shape == (len(x), 2)
    np.testing.assert_allclose(both[:, 0], -both[:, 1], atol=1e-5)


def test_each_fit_is_one_run():
    memory = recording.Memory()
    with recording.use(memory), recording.run("outer"):
        cross_val_score(linear(), X, Y, cv=2)
    runs = [arguments[0] for hook, arguments in memory.events if hook == "start"]
    assert [run.name for run in runs] == ["outer", "KerasClassifier", "KerasClassifier"] and runs[1].parent is runs[0] is runs[2].parent


# ─ inside scikit-learn


def test_in_a_pipeline_and_cross_validation_is_stratified():
    order = np.argsort(Y, kind="stable")  # without stratification whole classes would be missing
    scores = cross_val_score(make_pipeline(StandardScaler(), linear()), X[order], Y[order], cv=3)
    assert scores.min() > 0.7


def test_in_a_grid_search():
    search = GridSearchCV(linear(), {"technique__ridge": [0.01, 1e5], "build": [mlp]}, cv=2).fit(X, Y)
    assert search.best_params_["technique__ridge"] == 0.01 and search.best_estimator_.report_.settings["ridge"] == 0.01


@pytest.mark.parametrize(
    "around",
    [
        lambda clf: CalibratedClassifierCV(clf, cv=2),
        lambda clf: VotingClassifier([("ours", clf), ("theirs", LogisticRegression(max_iter=50))], voting="soft"),
        lambda clf: StackingClassifier([("ours", clf)], final_estimator=LogisticRegression(max_iter=200), cv=2),
        lambda clf: AdaBoostClassifier(clf, n_estimators=2, random_state=0),
    ],
    ids=["calibrated", "voting", "stacking", "adaboost"],
)
def test_in_an_ensemble(around):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = around(linear()).fit(X[:400], Y[:400])
    assert whole.score(X[400:], Y[400:]) > 0.7 and whole.predict_proba(X[400:]).shape == (200, 10)


# ─ scikit-learn's own checks

EXPECTED = {"check_sample_weight_equivalence_on_dense_data": "sums in float32 depend on their order in the last digits"}
CHECKED = Train(epochs=30, batch_size=50, learning_rate=0.02, steps_per_execution=1, checkpoint=0)
FEW = (
    "check_estimator_cloneable", "check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_set_params",
    "check_do_not_raise_errors_in_init_or_set_params", "check_get_params_invariance", "check_estimators_nan_inf", "check_dict_unchanged",
    "check_supervised_y_2d", "check_classifiers_one_label", "check_estimators_pickle", "check_sample_weights_shape",
)  # fmt: skip


@pytest.mark.parametrize("kind", [KerasClassifier, KerasRegressor])
def test_a_handful_of_the_checks(kind):
    done = set()
    for estimator, check in estimator_checks_generator(kind(technique=LeastSquares(), build__units=())):
        name = getattr(check, "func", check).__name__
        if name in FEW:
            check(estimator)
            done.add(name)
    assert len(done) >= len(FEW) - (kind is KerasRegressor)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [KerasClassifier, KerasRegressor])
def test_all_of_the_checks(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(kind(training=CHECKED, build__units=(16,)), expected_failed_checks=EXPECTED, on_skip=None)
    assert {one["check_name"] for one in found if one["status"] == "xfail"} <= set(EXPECTED) and len(found) > 50
