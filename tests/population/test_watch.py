import numpy as np
import pytest

import kdfuse as kf
from kdfuse.population.population import Population, why_not
from kdfuse.population.watch import why_not_watched
from kdfuse.train import Train

STOPPINGS = {
    "best accuracy": kf.Stopping("validation/accuracy", patience=6),
    "best loss": kf.Stopping("validation/loss", patience=6),
    "soon": kf.Stopping("validation/loss", patience=1, min_delta=0.5),
    "soon, last weights": kf.Stopping("validation/loss", patience=1, min_delta=0.5, restore_best=False),
    "by training": kf.Stopping("train/loss", patience=2, min_delta=0.1),
}


@pytest.fixture(scope="module")
def data():
    digits, draws = kf.datasets.load("digits"), np.random.default_rng(0)
    held = (digits.validation.x[:90], digits.validation.y[:90], draws.uniform(0.5, 1.5, 90).astype("float32"))
    return kf.Data((digits.train.x[:150], digits.train.y[:150], draws.uniform(0.5, 1.5, 150).astype("float32")), held)


def make(data, stopping, seed=0):
    training = Train(epochs=6, learning_rate=0.02, l2=1e-3, stopping=stopping, seed=seed)
    return kf.models.mlp(data, units=(12,), batch_norm=True, seed=seed), training


@pytest.mark.parametrize("name", STOPPINGS)
def test_curves_weights_and_end_are_those_of_fit(name, data):
    model, training = make(data, STOPPINGS[name])
    assert why_not(model, training, data) is None
    theirs, mine = training.private(model, data), training.private(model, data)
    history = training.fit(theirs, data).history
    population = Population([mine], [training], data)
    population.advance(2)
    population.advance(4)
    population.write()
    curves = population.curves[0]
    assert set(curves) == {"train/loss", "validation/loss", "validation/accuracy"}
    for curve, values in curves.items():
        np.testing.assert_allclose(values, history[curve], rtol=2e-3, atol=2e-4, err_msg=curve)
    x = data.validation.x
    np.testing.assert_allclose(np.asarray(mine(x)), np.asarray(theirs(x)), atol=5e-3)
    np.testing.assert_allclose(population.outputs(data.validation)[0], np.asarray(mine(x)), atol=1e-5)


def test_the_settings_make_a_difference(data):
    ends = {}
    for name, stopping in STOPPINGS.items():
        model, training = make(data, stopping)
        population = Population([training.private(model, data)], [training], data)
        population.advance(6)
        ends[name] = (len(population.curves[0]["train/loss"]), population.outputs(data.validation))
    assert ends["soon"][0] < 6 and ends["best loss"][0] == 6
    assert not np.array_equal(ends["soon"][1], ends["soon, last weights"][1])


def test_it_trains_on_from_its_last_weights_after_the_best_were_shown(data):
    model, training = make(data, STOPPINGS["best accuracy"])
    whole, halves = (Population([training.private(model, data)], [training], data) for _ in range(2))
    whole.advance(6)
    for _ in range(6):
        halves.advance(1)
        halves.outputs(data.validation)
        halves.write()
    assert halves.curves == whole.curves
    assert np.array_equal(halves.outputs(data.validation), whole.outputs(data.validation))


@pytest.mark.parametrize("name", ["best accuracy", "soon"])
def test_a_state_knows_the_best_epoch(name, data):
    pairs = [make(data, STOPPINGS[name], seed) for seed in (0, 1)]
    first, second = (Population([t.private(m, data) for m, t in pairs], [t for _, t in pairs], data) for _ in range(2))
    first.advance(4)
    second.advance(5)  # what it saw is forgotten
    second.restore(first.state())
    first.advance(2)
    second.advance(2)
    assert first.curves == second.curves
    assert np.array_equal(first.outputs(data.validation), second.outputs(data.validation))


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_accuracy_of_independent_columns_is_that_of_keras(task):
    draws = np.random.default_rng(0)
    x = draws.normal(size=(80, 5)).astype("float32")
    y = (x[:, :3] > 0).astype("float32") if task == "multilabel" else (x[:, 0] > 0).astype(int)
    data = kf.Data((x, y), (x[:40], y[:40]), task=task)
    training = Train(epochs=3, learning_rate=0.02, stopping=kf.Stopping("validation/accuracy", patience=3))
    model = kf.models.mlp(data, units=(6,))
    assert why_not(model, training, data) is None
    theirs = training.private(model, data)
    history = training.fit(theirs, data).history
    population = Population([training.private(model, data)], [training], data)
    population.advance(3)
    np.testing.assert_allclose(population.curves[0]["validation/accuracy"], history["validation/accuracy"], atol=1e-6)


def test_what_cannot_be_watched_says_so(data):
    model, _ = make(data, None)
    rows = (data.train.x, np.random.default_rng(0).normal(size=(150, 2)))
    numbers = kf.Data(rows, rows, task="regression")
    for monitor, given, said in [
        ("train/learning_rate", data, "train/learning_rate"),
        ("validation/loss", data.with_splits(validation=None), "no single array"),
        ("validation/accuracy", numbers, "metrics"),
    ]:
        own = kf.models.mlp(given, units=(4,)) if given is numbers else model
        assert said in why_not(own, Train(stopping=kf.Stopping(monitor)), given)
    assert why_not_watched(kf.Stopping("train/loss"), {}, data.with_splits(validation=None)) is None
