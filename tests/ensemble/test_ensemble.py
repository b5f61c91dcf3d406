"""The report of an ensemble beside its members."""

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.ensemble import Ensemble, beside
from kdfuse.ensemble.joined import join
from kdfuse.ensemble.members import take
from kdfuse.settings import settings
from kdfuse.technique import Result
from kdfuse.train import Train

DIGITS = load("digits", labels=200)


def net(seed=0, units=10, shape=(64,)):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(8, "relu"), keras.layers.Dense(units)]
    return keras.Sequential(layers, name=f"net_{seed}")


@settings
class Average(Ensemble):
    """The mean of its members."""

    def apply(self, model, data):
        scale = None if data.task == "regression" else "probabilities"
        joined = join(take(model, data), data, lambda place: Mean(), scale=scale, name="average")
        return Result(joined, baselines=beside(model))


@pytest.fixture(scope="module")
def models():
    return [Train(epochs=4, seed=seed)(net(seed, shape=DIGITS.input_shape), DIGITS)[0] for seed in range(3)]


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (("wide", "deep"), ["wide", "deep"]),
        (("mlp", "convnet", "mlp"), ["member 1", "convnet", "member 3"]),
        (("ensemble", "teacher B", "model", "wide"), ["member 1", "member 2", "member 3", "wide"]),
        (("member 2", "net", "net"), ["member 1", "member 2", "member 3"]),
    ],
)
def test_members_are_called_as_their_models_where_nothing_else_is(names, rows):
    models = [keras.Sequential([], name="any") for _ in names]
    for model, name in zip(models, names, strict=True):
        model.name = name
    assert list(beside(models)) == rows and list(beside(models).values()) == models
    assert list(beside(models, [f"{place}" for place in range(len(models))])) == [f"{place}" for place in range(len(models))]


def test_the_report_tells_the_members_the_best_of_them_and_how_they_differ(models):
    _, report = Average()(models, DIGITS)
    assert [row["model"] for row in report.rows()] == ["ensemble", "net_0", "net_1", "net_2"]
    rows = {row["model"]: row for row in report.rows()}
    best = max(("net_0", "net_1", "net_2"), key=lambda name: rows[name]["validation/accuracy"])
    difference = rows["ensemble"]["test/log_loss"] - rows[best]["test/log_loss"]
    assert report.metrics["delta/best member/test/log_loss"] == pytest.approx(difference)
    assert not any(name.startswith("delta/net") for name in report.metrics)
    assert f"The best member is {best}." in " ".join(report.notes)

    x, y, _ = DIGITS.test.head(len(DIGITS.test))
    decided = np.stack([np.argmax(one(x), -1) for one in models])
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert report.metrics["ensemble/disagreement"] == pytest.approx(np.mean([np.mean(decided[a] != decided[b]) for a, b in pairs]))
    assert report.metrics["ensemble/oracle"] == pytest.approx(np.mean((decided == y).any(0)))
    assert report.tables["diversity"][0]["net_1"] == pytest.approx(np.mean(decided[0] != decided[1]))
    curve = report.tables["reliability"]
    assert sum(row["share"] * abs(row["accuracy"] - row["confidence"]) for row in curve) == pytest.approx(report["test/ece"], abs=1e-6)


def test_regressions_tell_how_alike_their_errors_are():
    x = np.random.default_rng(0).normal(size=(90, 64)).astype("float32")
    data = Data(train=(x[:50], x[:50, :1]), validation=(x[50:70], x[50:70, :1]), test=(x[70:], x[70:, :1]))
    _, report = Average()([net(0, 1), net(1, 1)], data)
    errors = np.stack([np.asarray(net(seed, 1)(x[70:]))[:, 0] - x[70:, 0] for seed in (0, 1)])
    assert report.metrics["ensemble/error_correlation"] == pytest.approx(np.corrcoef(errors)[0, 1], abs=1e-5)
    assert "reliability" not in report.tables and "diversity" not in report.tables


def test_members_must_fit_before_anything_is_done(models):
    with pytest.raises(ValueError, match="`model` of Average: expected 2 or more models"):
        Average()(models[:1], DIGITS)
    with pytest.raises(TypeError, match="`model` of Average: expected a list of models"):
        Average()(models[0], DIGITS)
