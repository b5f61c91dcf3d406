import time
import warnings

import numpy as np
import optuna
import pytest
from scipy.stats import loguniform
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from kdfuse import recording
from kdfuse.models.convnet import convnet
from kdfuse.models.mlp import mlp
from kdfuse.search.estimator import KerasClassifier
from kdfuse.search.search_cv import SearchCV
from kdfuse.search.space import Float, Int
from kdfuse.train import Train

X, Y = load_digits(return_X_y=True)
X, Y = X[:240] / 16, Y[:240]
LINEAR, TREE = Ridge(), DecisionTreeClassifier(random_state=0)
PIPE = Pipeline([("clf", TREE)])
SPACE = {"clf": [TREE, LogisticRegression(max_iter=20)], "clf__max_depth": Int(2, 9), "clf__C": Float(1e-3, 10.0, log=True)}


@pytest.fixture(autouse=True)
def no_convergence_needed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def search(estimator=PIPE, space=SPACE, **settings):
    return SearchCV(estimator, space, **{"cv": 2, "random_state": 0, "n_trials": 6, **settings})


def same(one, other):
    """Equal `cv_results_` but for times."""
    assert set(one) == set(other)
    assert [str(params) for params in one["params"]] == [str(params) for params in other["params"]]
    for name in one:
        if name.startswith(("mean_test", "std_test", "split", "rank")):
            np.testing.assert_array_equal(one[name], other[name])


def test_a_grid_is_that_of_scikit_learn():
    theirs = GridSearchCV(TREE, {"max_depth": [2, 4, 6], "min_samples_leaf": [1, 5]}, cv=3, return_train_score=True).fit(X, Y)
    ours = SearchCV(TREE, {"max_depth": [2, 4, 6], "min_samples_leaf": [1, 5]}, strategy="grid", cv=3, return_train_score=True).fit(X, Y)
    assert set(ours.cv_results_) == set(theirs.cv_results_) and ours.cv_results_["params"] == theirs.cv_results_["params"]
    for name in ("mean_test_score", "split2_test_score", "mean_train_score", "rank_test_score"):
        np.testing.assert_array_equal(ours.cv_results_[name], theirs.cv_results_[name])
    assert ours.best_params_ == theirs.best_params_ and ours.best_score_ == theirs.best_score_ and is_classifier(ours)
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    assert ours.score(X, Y) == theirs.score(X, Y) and list(ours.classes_) == list(range(10))


@pytest.mark.parametrize("strategy", ["random", "bayes"])
def test_conditional_candidates(strategy):
    done = search(strategy=strategy).fit(X, Y)
    assert len(done.cv_results_["params"]) == 6
    for params in done.cv_results_["params"]:
        tree = isinstance(params["clf"], DecisionTreeClassifier)
        assert set(params) == ({"clf", "clf__max_depth"} if tree else {"clf", "clf__C"})
    assert done.cv_results_["param_clf__C"].mask.any() and not done.cv_results_["param_clf__C"].mask.all()
    same(done.cv_results_, clone(done).fit(X, Y).cv_results_)
    assert [str(one) for one in done.cv_results_["params"]] != [str(one) for one in search(random_state=1).fit(X, Y).cv_results_["params"]]


def test_bayes_finds_what_few_random_draws_do_not():
    space = {"alpha": Float(1e-6, 1e6, log=True), "fit_intercept": [True]}
    settings = {"n_trials": 40, "scoring": "neg_mean_squared_error", "refit": False, "cv": 2}
    x = X[:60]
    target = x @ np.linspace(-1, 1, 64) + np.random.default_rng(0).normal(size=60)
    best = {}
    for strategy in ("bayes", "grid"):
        best[strategy] = search(LINEAR, space, strategy=strategy, points=400 if strategy == "grid" else 3,
                                **{**settings, "n_trials": None if strategy == "grid" else 40}).fit(x, target)  # fmt: skip
    optimum = best["grid"].best_score_
    assert best["bayes"].best_score_ > optimum - 0.01 * abs(optimum)
    late = [abs(np.log10(one["alpha"]) - np.log10(best["grid"].best_params_["alpha"])) for one in best["bayes"].cv_results_["params"][20:]]
    assert np.median(late) < 1.5  # of twelve orders of magnitude


@pytest.mark.parametrize("strategy", ["bayes", "random"])
def test_a_search_resumes_with_all_of_its_rows(strategy, tmp_path):
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    settings = {"strategy": strategy, "scoring": ["accuracy", "f1_macro"], "refit": "f1_macro", "return_train_score": True}
    whole = search(**settings, n_trials=8).fit(X, Y)
    search(**settings, n_trials=4, storage=storage).fit(X, Y)
    memory = recording.Memory()
    with recording.use(memory):
        resumed = search(**settings, n_trials=8, storage=storage).fit(X, Y)
    same(whole.cv_results_, resumed.cv_results_)
    assert "split1_train_accuracy" in resumed.cv_results_ and str(resumed.best_params_) == str(whole.best_params_)
    assert [arguments[0].name for hook, arguments in memory.events if hook == "start"] == ["SearchCV", *(f"trial {n}" for n in range(4, 8))]
    begun = time.perf_counter()
    nothing_left = search(**settings, n_trials=8, storage=storage).fit(X, Y)
    same(whole.cv_results_, nothing_left.cv_results_)
    assert nothing_left.best_estimator_.score(X, Y) == whole.best_estimator_.score(X, Y) and time.perf_counter() - begun < 5


def test_another_search_in_the_same_storage_begins_anew(tmp_path):
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    search(n_trials=3, storage=storage).fit(X, Y)
    for change in ({"cv": 3}, {"random_state": 1}, {"space": {"clf__max_depth": Int(2, 8)}}):
        assert len(search(**{"n_trials": 2, "storage": storage, **change}).fit(X, Y).cv_results_["params"]) == 2
    assert len(search(n_trials=2, storage=storage).fit(X[:200], Y[:200]).cv_results_["params"]) == 2
    assert len(search(n_trials=1, storage=storage).fit(X, Y).cv_results_["params"]) == 3


def test_several_scores_are_sought_at_once_where_none_decides():
    done = search(strategy="bayes", scoring=["accuracy", "neg_log_loss"], refit=False).fit(X, Y)
    scores = np.stack([done.cv_results_["mean_test_accuracy"], done.cv_results_["mean_test_neg_log_loss"]], axis=1)
    beaten = [any((other >= own).all() and (other > own).any() for other in scores) for own in scores]
    assert set(done.front_) <= {place for place, lost in enumerate(beaten) if not lost} and done.front_
    assert not hasattr(done, "best_params_")

    def chosen(results):
        return int(np.argmax(results["mean_test_neg_log_loss"]))

    one = search(strategy="bayes", scoring=["accuracy", "neg_log_loss"], refit=chosen).fit(X, Y)
    assert one.best_index_ == chosen(one.cv_results_) and one.best_estimator_ is not None


def test_a_callable_may_give_several_scores():
    def both(estimator, x, y):
        return {"hit": np.mean(estimator.predict(x) == y), "depth": -estimator.get_depth()}

    for strategy in ("random", "bayes"):
        done = search(TREE, {"max_depth": Int(1, 9)}, strategy=strategy, scoring=both, refit="hit").fit(X, Y)
        assert done.best_score_ == done.cv_results_["mean_test_hit"].max() and "mean_test_depth" in done.cv_results_
    done = search(TREE, {"max_depth": Int(1, 9)}, strategy="bayes", scoring=both, refit=False).fit(X, Y)
    assert done.front_


def test_distributions_of_scipy_and_fit_parameters():
    weights = np.ones(len(X))
    done = search(TREE, {"ccp_alpha": loguniform(1e-5, 1e-1)}, strategy="bayes", n_trials=3).fit(X, Y, sample_weight=weights)
    assert 1e-5 <= done.best_params_["ccp_alpha"] <= 0.1


def test_candidates_that_fail(tmp_path):
    space = {"max_depth": [3, -1, -2, -3, -4, -5]}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        done = search(TREE, space, strategy="grid", n_trials=None, batch=3, storage=f"sqlite:///{tmp_path / 'one.db'}").fit(X, Y)
    assert done.best_params_ == {"max_depth": 3} and list(np.isnan(done.cv_results_["mean_test_score"])) == [False, True, True]
    assert any("Every fit of 3 candidates failed; they are left out." in str(one.message) for one in told)
    with pytest.raises(ValueError, match="fits failed"):
        search(TREE, {"max_depth": [-1, -2]}).fit(X, Y)
    with pytest.raises(ValueError, match="max_depth"):
        search(TREE, {"max_depth": [-1, -2]}, error_score="raise").fit(X, Y)


def test_no_batch_begins_after_the_timeout():
    assert len(search(TREE, {"max_depth": Int(1, 1000)}, n_trials=1000, batch=2, timeout=1e-9).fit(X, Y).cv_results_["params"]) == 2


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"strategy": "tpe"}, "`strategy`: expected one of"),
        ({"n_trials": 0}, "`n_trials`: expected an integer of at least 1. Received: n_trials=0"),
        ({"batch": None}, "`batch`: expected an integer"),
        ({"points": 1.5}, "`points`"),
        ({"timeout": 0}, "`timeout`: expected seconds above 0"),
        ({"study_name": "one"}, "`study_name`: expected a `storage`"),
        ({"scoring": ["accuracy", "f1_macro"]}, "`refit`: of several scores, name the one that decides"),
        ({"space": {"clf__max_dept": [1]}}, "no parameter 'clf__max_dept'.*'clf__max_depth'"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_fit(settings, problem):
    with pytest.raises(ValueError, match=problem):
        search(**settings).fit(X, Y)


def test_a_search_is_a_run_with_one_for_each_candidate():
    memory = recording.Memory()
    with recording.use(memory):
        done = search(KerasClassifier(training=Train(epochs=1, batch_size=120, optimizer="sgd", steps_per_execution=1, checkpoint=0)),
                      {"build": [mlp, convnet], "build__filters": [(2,)], "build__units": [()], "training__learning_rate": [0.1]},
                      strategy="grid", n_trials=None).fit(X.reshape(-1, 8, 8, 1), Y)  # fmt: skip
    runs = {arguments[0].name: arguments[0] for hook, arguments in memory.events if hook == "start"}
    assert list(runs) == ["SearchCV", "trial 0", "trial 1", "KerasClassifier"]
    assert all(run.parent is runs["SearchCV"] for name, run in runs.items() if name != "SearchCV")
    assert runs["trial 1"].settings["build__filters"] == "(2,)" and "build__filters" not in runs["trial 0"].settings
    logged = {arguments[0].name: arguments[1] for hook, arguments in memory.events if hook == "log" and "trial" in arguments[0].name}
    assert logged["trial 1"] == {"cv/score": done.cv_results_["mean_test_score"][1]}
    assert done.report_.tables["trials"][1]["cv/score"] == logged["trial 1"]["cv/score"] and done.report_.children
    assert done.best_estimator_.build is done.best_params_["build"]


@pytest.mark.slow
def test_workers_change_the_time_alone():
    training = Train(epochs=3, batch_size=60, steps_per_execution=1, checkpoint=0)
    space = {"build__units": [(8,), (16,)], "training__learning_rate": Float(1e-3, 1e-1, log=True)}
    one, two = (search(KerasClassifier(training=training), space, strategy="bayes", n_jobs=jobs).fit(X, Y) for jobs in (None, 2))
    assert [str(params) for params in one.cv_results_["params"]] == [str(params) for params in two.cv_results_["params"]]
    np.testing.assert_allclose(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"], atol=1e-6)


def test_a_search_of_other_rows_weights_choices_or_models_begins_anew(tmp_path):
    storage = f"sqlite:///{tmp_path / 'one.db'}"
    long = [10.0**-power for power in range(12)]  # whose text is cut
    weights = np.where(Y < 5, 1.0, 3.0)
    made = [
        search(TREE, {"max_depth": [1]}, n_trials=1, storage=storage).fit(X, Y),
        search(TREE, {"max_depth": [1]}, n_trials=1, storage=storage).fit(X, Y, sample_weight=weights),
        search(LINEAR, {"alpha": long}, n_trials=1, storage=storage).fit(X, Y),
        search(LINEAR, {"alpha": [*long[:-1], 7.0]}, n_trials=1, storage=storage).fit(X, Y),
        search(LINEAR, {"alpha": loguniform(1, 2)}, n_trials=1, storage=storage).fit(X, Y),
        search(LINEAR, {"alpha": loguniform(3, 4)}, n_trials=1, storage=storage).fit(X, Y),
    ]
    assert len(set(optuna.get_all_study_names(storage))) == len(made)
    assert made[0].best_score_ != made[1].best_score_ and made[5].best_params_["alpha"] >= 3


def test_one_score_may_be_named_by_refit():
    assert search(TREE, {"max_depth": [2, 4]}, refit="accuracy").fit(X, Y).best_params_ == {"max_depth": 4}
