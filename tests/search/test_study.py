from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from scipy.stats import loguniform, randint
from sklearn.linear_model import LogisticRegression

from kdfuse.distill.distill import Distill
from kdfuse.models.mlp import mlp
from kdfuse.search.conditional import Conditional
from kdfuse.search.space import Float, Int
from kdfuse.search.study import Study, told

SPACE = {"C": Float(1e-3, 10.0, log=True), "max_iter": Int(1, 50), "class_weight": [None, "balanced"]}


def study(space=SPACE, strategy="bayes", objectives=1, **others):
    return Study(Conditional(LogisticRegression(), space), strategy, objectives, **{"seed": 0, **others})


def advance(one, batches=3, count=3):
    asked = []
    for _ in range(batches):
        for trial, params in one.ask(count):
            value = -abs(np.log10(params["C"])) - (params["class_weight"] is None)
            one.tell(trial, params, [value], [{"test_scores": np.float64(value), "fit_error": None}])
            asked.append(params)
    return asked


@pytest.mark.parametrize("strategy", ["bayes", "random", "grid"])
def test_a_resumed_study_goes_on_as_one_that_was_not_interrupted(strategy, tmp_path):
    whole = advance(study(strategy=strategy), batches=6)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    first = advance(study(strategy=strategy, storage=storage, name="one"), batches=3)
    again = study(strategy=strategy, storage=storage, name="one")
    assert [params for params, _ in again.rows()] == first == whole[:9]
    assert again.rows()[0][1] == [{"test_scores": pytest.approx(again.study.trials[0].value), "fit_error": None}]
    assert first + advance(again, batches=3) == whole


def test_a_killed_process_leaves_nothing_that_counts(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for strategy in ("bayes", "random"):
        killed = study(strategy=strategy, storage=storage, name=strategy)
        first = [params for _, params in killed.ask(2)]
        killed.study.enqueue_trial({"C": 1.0})
        again = study(strategy=strategy, storage=storage, name=strategy)
        assert again.rows() == [] and {trial.state for trial in again.study.trials} == {optuna.trial.TrialState.FAIL}
        if strategy == "random":
            assert [params for _, params in again.ask(2)] == first


def test_optuna_knows_what_random_search_drew():
    one = study(strategy="random")
    asked = advance(one)
    for trial, params in zip(one.study.trials, asked, strict=True):
        assert trial.params["C"] == params["C"] and trial.params["class_weight"] == repr(params["class_weight"])


def test_a_space_that_is_tried_whole_gives_no_more():
    one = study({"class_weight": [None, "balanced"], "C": [1.0]}, "random")
    assert len(one.ask(5)) == 2 and one.ask(5) == []


def test_distributions_of_scipy_are_asked_by_their_quantiles():
    one = study({"C": loguniform(1e-3, 10), "max_iter": randint(1, 50), "class_weight": [None]})
    for params in advance(one, batches=2):
        assert 1e-3 <= params["C"] <= 10 and type(params["C"]) is float and 1 <= params["max_iter"] < 50
        assert type(params["max_iter"]) is int

    class Draws:
        def rvs(self, size=None, random_state=None):
            return 1.0

    assert study({"C": Draws()}, "random").ask(1)[0][1] == {"C": 1.0}
    with pytest.raises(TypeError, match="Optuna has no form for Draws of 'C'"):
        study({"C": Draws()}).ask(1)


def test_several_objectives_and_values_that_are_not_finite():
    one = study(objectives=2)
    assert isinstance(one._sampler(), optuna.samplers.NSGAIISampler)
    (first, params), (second, _) = one.ask(2)
    one.tell(first, params, [float("nan"), 1.0], [])
    one.failed(second)
    assert [trial.state.name for trial in one.study.trials] == ["FAIL", "FAIL"] and len(one.rows()) == 1


def test_a_study_of_other_objectives_is_refused(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study(objectives=2, storage=storage, name="one")
    with pytest.raises(ValueError, match="'one' has 2 objectives, this search 1"):
        study(storage=storage, name="one")


def test_a_study_of_other_choices_is_refused(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    one = study({"C": [1.0, 2.0]}, "random", storage=storage, name="one")
    ((trial, params),) = one.ask(1)
    one.tell(trial, params, [1.0], [])
    for other in ({"C": [3.0, 4.0]}, {"max_iter": Int(1, 50)}):
        with pytest.raises(ValueError, match="`study_name`: the study 'one' in the storage has '.*', which this space has not"):
            study(other, "random", storage=storage, name="one")


def test_models_are_told_by_their_weights():
    data = SimpleNamespace(input_shape=(3,), task="classification", classes=2)
    first, second = (told(Distill(mlp(data, units=2, seed=seed))) for seed in (0, 1))
    assert first != second == told(Distill(mlp(data, units=2, seed=1)))
