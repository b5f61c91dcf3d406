import dataclasses

import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.fitting.live import Live
from kdfuse.search.candidate import Candidate
from kdfuse.search.idle import MOST, Idle, mark
from kdfuse.train import Train


def marked(model, build=kf.models.convnet, **settings):
    return mark(Candidate(0, {}, kf.Train(**settings), build, {}, {}), model)


def test_learning_rate_seeds_and_weights_do_not_count(data):
    one, other = (kf.models.convnet(data, filters=4, dropout=0.1, seed=seed) for seed in (0, 1))
    assert marked(one, learning_rate=0.1, seed=3) == marked(other) is not None
    assert marked(one, learning_rate=0.1, decay="plateau") == marked(one, decay="plateau")


def test_what_is_in_the_graph_counts(data):
    model = kf.models.convnet(data, filters=4)
    found = {marked(model, **one) for one in ({}, {"l2": 0.1}, {"batch_size": 8}, {"optimizer": "sgd"}, {"precision": "mixed_bfloat16"})}
    found |= {marked(model, decay="cosine"), marked(model, decay="cosine", learning_rate=0.1)}
    found |= {marked(kf.models.convnet(data, filters=5)), marked(kf.models.convnet(data, filters=4, activation="tanh"))}
    assert len(found) == 9 and None not in found


def test_who_is_compiled_for_its_trial_alone(data):
    model = kf.models.convnet(data, filters=4)
    assert marked(model, precision="mixed_float16") is None
    assert marked(model, build=model) is None
    assert marked(model, optimizer=keras.optimizers.Adam()) is None
    assert mark(Candidate(0, {}, kf.Distill(model), kf.models.convnet, {}, {}), model) is None
    model.compile("sgd", "mse")
    assert marked(model) is None


def test_the_one_that_waits_longest_goes(data):
    idle, model = Idle(), kf.models.mlp(data, units=2)
    model.compile("sgd", "mse")
    lives = [Live(model, model) for _ in range(MOST + 1)]
    for place, live in enumerate(lives):
        live._optimizer = [np.asarray(variable) for variable in model.optimizer.variables]
        idle.put(str(place), live)
    idle.put(None, lives[0])
    assert idle.take("0", model) not in lives and idle.take(None, model) not in lives
    assert idle.take("1", model) is lives[1]
    assert idle.take("1", model) is not lives[1]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("adagrad", "momentum")]


@pytest.mark.parametrize("optimizer", ["adam", *SLOW])
def test_trials_that_share_a_compiled_model_end_as_those_that_do_not(data, optimizer, monkeypatch):
    space = {"training__learning_rate": [0.01, 0.001], "training__seed": [5]}
    training = kf.Train(epochs=2, batch_size=64, optimizer=optimizer, stopping=kf.Stopping(patience=5), decay="plateau")
    calls = []
    compile_ = Train._compiled
    monkeypatch.setattr(Train, "_compiled", lambda self, *given: calls.append(1) or compile_(self, *given))
    found = {}
    for live in (True, False):
        search = kf.GridSearch(training, space, live=live, refit=False)
        calls.clear()
        best, report = search(lambda data: kf.models.convnet(data, filters=4, units=8, dropout=0.2, batch_norm=True), data)
        found[live] = ([row["validation/log_loss"] for row in report.tables["trials"]], best.get_weights(), len(calls))
    assert found[True][2] == 1 and found[False][2] == 2
    assert found[True][0] == found[False][0]
    for mine, theirs in zip(found[True][1], found[False][1], strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_halving_lets_models_begin_again_and_go_on(data):
    space = {"training__learning_rate": [0.01, 0.003, 1e-5, 1e-6]}
    found = {}
    for live in (True, False):
        search = kf.HalvingSearch(kf.Train(batch_size=64), space, max_epochs=4, eta=2, live=live, refit=False)
        best, report = search(lambda data: kf.models.convnet(data, filters=4, units=8), data)
        found[live] = ([row["validation/log_loss"] for row in report.tables["trials"]], best.get_weights())
    assert found[True][0] == found[False][0]
    for mine, theirs in zip(found[True][1], found[False][1], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_setting_is_checked():
    with pytest.raises(TypeError, match="`live`"):
        dataclasses.replace(kf.RandomSearch(kf.Train(), {"epochs": [1]}), live=1)
