"""Soup: the mean of weights, the greedy one, measured statistics, what is refused."""

import keras
import numpy as np
import pytest

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.ensemble.parallel.soup import Soup, check_structures, mean_weights, overall, scores
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.train import Train

DIGITS = load("digits", labels=200)
L = keras.layers


@pytest.fixture(autouse=True)
def only_quality(monkeypatch):
    for name in ("timed", "size"):  # neither is what these tests are about
        monkeypatch.setattr(f"kdfuse.measure.measure.{name}", lambda *given: {})


def net(seed=0, units=16, norm=False, activation="relu"):
    keras.utils.set_random_seed(seed)
    middle = [L.BatchNormalization(name="norm")] if norm else []
    layers = [keras.Input(DIGITS.input_shape), L.Flatten(), *middle, L.Dense(units, activation, name="mid"), L.Dense(10, name="head")]
    return keras.Sequential(layers, name="net")


def trained(model, epochs, seed, rate=0.01):
    with recording.silence():
        return Train(epochs=epochs, learning_rate=rate, seed=seed, checkpoint=0).apply(model, DIGITS).model


@pytest.fixture(scope="module")
def start():
    return trained(net(), 8, 0)


@pytest.fixture(scope="module")
def branches(start):
    return [trained(start, 1, seed, rate=0.02) for seed in (1, 2)]


def spoilt(model, share):
    """A model that is worse: noise on its weights."""
    made = keras.models.clone_model(model)
    rng = np.random.default_rng(0)
    made.set_weights([one + share * one.std() * rng.normal(size=one.shape).astype("float32") for one in model.get_weights()])
    return made


def accuracy(weights):
    model = net()
    model.set_weights(weights)
    x, y, _ = DIGITS.validation.head(len(DIGITS.validation))
    return np.mean(np.argmax(model(x), -1) == y)


def test_uniform_is_the_mean_of_the_weights(branches, start, tmp_path):
    marks = [fingerprint(one) for one in branches]
    model, report = Soup()([*branches, start], DIGITS)
    for place, weight in enumerate(model.get_weights()):
        wanted = np.mean([one.get_weights()[place].astype("float64") for one in (*branches, start)], axis=0)
        np.testing.assert_allclose(weight, wanted, rtol=1e-6, atol=1e-7)
    assert [fingerprint(one) for one in branches] == marks and report.metrics["soup/members"] == 3
    assert [row["model"] for row in report.rows()] == ["soup", "member 1", "member 2", "member 3"]
    model.save(tmp_path / "soup.keras")
    x = DIGITS.example(5)
    assert np.array_equal(keras.models.load_model(tmp_path / "soup.keras")(x), model(x))


def test_greedy_is_recipe_1_of_the_paper(branches, start):
    models = [spoilt(start, 1.0), *branches, start]
    weights = [one.get_weights() for one in models]
    single = [accuracy(one) for one in weights]
    taken, best = [], -1.0
    for place in sorted(range(4), key=lambda place: -single[place]):
        value = accuracy([np.mean(column, axis=0) for column in zip(*(weights[one] for one in [*taken, place]), strict=True)])
        if value >= best:
            taken, best = [*taken, place], value
    result = Soup("greedy").apply(models, DIGITS)
    assert 0 not in taken and result.metrics["soup/members"] == len(taken)
    assert sorted(int(row["model"][0]) - 1 for row in result.tables["soup"] if row["taken"]) == sorted(taken)
    for weight, column in zip(result.model.get_weights(), zip(*(weights[one] for one in taken), strict=True), strict=True):
        np.testing.assert_allclose(weight, np.mean(column, axis=0), atol=1e-6)


def test_one_member_alone_is_that_model(start):
    result = Soup("greedy").apply([spoilt(start, 3.0), start], DIGITS)
    assert "No other model made the best one better" in " ".join(result.notes)
    assert all(np.array_equal(one, other) for one, other in zip(result.model.get_weights(), start.get_weights(), strict=True))


def test_statistics_are_those_of_the_training_rows():
    model = net(norm=True)
    result = Soup().apply([model, spoilt(model, 0.1)], DIGITS)
    x = DIGITS.train.x.reshape(200, -1).astype("float64")
    norm = result.model.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, x.mean(0), atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, x.var(0), atol=1e-4)
    assert "statistics of 1 BatchNorm layers" in " ".join(result.notes)


def test_it_is_trained_on_where_it_is_asked_for(branches):
    plain = Soup().apply(branches, DIGITS)
    result = Soup(training=Train(epochs=1, learning_rate=0.01, checkpoint=0)).apply(branches, DIGITS)
    assert len(result.history["train/loss"]) == 1 and not plain.history
    assert not np.allclose(result.model.get_weights()[0], plain.model.get_weights()[0], atol=1e-4)


def test_a_collapse_is_refused_with_the_figures(start):
    other = net(5)
    # The same function from elsewhere in the space of weights: the units of the middle layer in another order, with other signs.
    order = np.roll(np.arange(16), 5)
    kernel, bias, head, last = start.get_weights()
    other.set_weights([kernel[:, order], bias[order], head[order], last])
    wanted = f"{accuracy(start.get_weights()):.4g}"
    with pytest.raises(RuntimeError, match=rf"`model` of Soup.*validation/accuracy=.*members {wanted}, {wanted}.*kdfuse.Parallel"):
        Soup()([start, other], DIGITS)


def test_a_collapse_of_a_regression():
    x = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
    y = np.abs(x[:, :1])
    data = Data(train=(x, y), validation=(x, y))
    models = []
    for sign in (1, -1):
        model = keras.Sequential([keras.Input((4,)), L.Dense(2, "relu"), L.Dense(1)])
        kernel = np.zeros((4, 2), "float32")
        kernel[0] = (sign, -sign)
        model.set_weights([kernel, np.zeros(2), np.ones((2, 1)), np.zeros(1)])
        models.append(model)
    assert scores(models[0], data) == {"validation/rmse": pytest.approx(0, abs=1e-6)}
    with pytest.raises(RuntimeError, match="validation/rmse"):
        Soup()(models, data)


def test_scores_of_several_outputs():
    found = {"validation/a/accuracy": 0.5, "validation/b/accuracy": 0.7, "validation/c/rmse": 3.0}
    assert overall(found) == pytest.approx(0.6) and overall({"validation/c/rmse": 3.0, "validation/d/rmse": 1.0}) == -2


def test_the_mean_keeps_dtypes_and_integers():
    class Fake:
        def __init__(self, value):
            self.value = value

        def get_weights(self):
            return [np.full(2, self.value, "float16"), np.full(2, self.value, "int32")]

    half, whole = mean_weights([Fake(1), Fake(2)])
    assert half.dtype == "float16" and np.all(half == 1.5) and whole.dtype == "int32" and np.all(whole == 1)


def test_what_is_refused(start):
    with pytest.raises(ValueError, match="`how`: expected one of"):
        Soup("mean")
    with pytest.raises(TypeError, match="`training`"):
        Soup(training=3)
    with pytest.raises(ValueError, match="expected 2 or more models"):
        Soup()([start], DIGITS)
    with pytest.raises(ValueError, match="`data` of Soup: expected a validation split"):
        Soup()([start, start], Data(train=(DIGITS.train.x, DIGITS.train.y)))
    for other, said in (
        (net(units=8), r"Dense \[\(\(64, 16\), 'float32'\).*where model 2 .* has Dense \[\(\(64, 8\)"),
        (net(norm=True), "has Dense .* where model 2 .* has BatchNormalization"),
        (net(activation="tanh"), "relu.*tanh"),
    ):
        with pytest.raises(ValueError, match="(?s)expected models of one structure.*" + said):
            Soup()([start, other], DIGITS)
    drops = [keras.Sequential([keras.Input((4,)), L.Dropout(rate), L.Dense(2)]) for rate in (0.1, 0.5)]
    check_structures(drops)
