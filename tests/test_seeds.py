"""repeat: any technique over seeds."""

import statistics

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import kdfuse
from kdfuse import recording
from kdfuse.data import Data
from kdfuse.models.mlp import mlp
from kdfuse.report import Report
from kdfuse.seeds import Repeat, repeat, summary
from kdfuse.settings import replace, settings
from kdfuse.technique import Chain, Result, Technique
from kdfuse.train import Train

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
FAST = Train(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)


@pytest.fixture(scope="module")
def data():
    return Data(train=(X[:400], Y[:400]), validation=(X[400:600], Y[400:600]), test=(X[600:900], Y[600:900]), name="digits")


def small(data, seed=0):
    return mlp(data, units=(12,), seed=seed)


def alike(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_mean_and_spread_of_a_builder(data):
    memory = recording.Memory()
    with recording.use(memory):
        models, report = repeat(FAST, seeds=(0, 3, 5))(small, data)
    single = [replace(FAST, {"seed": seed})(small(data, seed), data) for seed in (0, 3, 5)]
    assert all(alike(one, other) for one, (other, _) in zip(models, single, strict=True))
    values = [one["test/accuracy"] for _, one in single]
    assert report["test/accuracy"] == pytest.approx(statistics.mean(values))
    assert report.metrics["sd/test/accuracy"] == pytest.approx(statistics.stdev(values))
    row = report.tables["models"][0]
    assert row["model"] == "model" and row["sd/test/accuracy"] == report.metrics["sd/test/accuracy"] and row["size/parameters"] == 910
    spread = next(line for line in report.tables["spread"] if line["figure"] == "test/accuracy")
    assert [spread[f"seed {seed}"] for seed in (0, 3, 5)] == values and spread["of"] == "model"
    assert [child.name for child in report.children] == ["seed 0", "seed 3", "seed 5"]
    assert [child.settings["seed"] for child in report.children] == [0, 3, 5]
    runs = [arguments[0] for hook, arguments in memory.events if hook == "start"]
    assert [run.name for run in runs] == ["Repeat", "seed 0", "seed 3", "seed 5"] and {run.parent for run in runs[1:]} == {runs[0]}
    assert sum(hook == "model" for hook, _ in memory.events) == 3, "each once, by its own run"
    mean, sd = 100 * statistics.mean(values), 100 * statistics.stdev(values)
    assert f"{mean:.1f} ± {sd:.1f} %" in str(report) and "910" in str(report)
    assert Report.from_json(report.to_json()).tables == report.tables


def test_controls_have_mean_and_spread_too(data):
    teacher = FAST.apply(mlp(data, units=(48,)), data).model
    distil = kdfuse.Distill(teacher, training=FAST, control=True)
    _, report = kdfuse.repeat(distil, seeds=(0, 1))(small, data)
    rows = {row["model"]: row for row in report.tables["models"]}
    assert list(rows) == ["student", "teacher", "control"]
    assert rows["teacher"]["sd/test/accuracy"] == 0
    for name in ("test/accuracy", "test/log_loss", "kd/agreement"):
        children = [{row["model"]: row for row in child.tables["models"]} for child in report.children]
        for row in ("student", "control"):
            values = [child[row][name] for child in children]
            assert rows[row][name] == pytest.approx(np.mean(values)) and rows[row][f"sd/{name}"] == pytest.approx(np.std(values, ddof=1))
    differences = [child.metrics["delta/control/test/log_loss"] for child in report.children]
    assert report.metrics["sd/delta/control/test/log_loss"] == pytest.approx(np.std(differences, ddof=1))


def test_a_given_model_and_every_seed_in_the_settings(data):
    given = small(data)
    models, report = repeat(Chain([FAST, Train(epochs=1, batch_size=64)]), seeds=(1, 2))(given, data)
    assert not alike(*models) and any("own weights in every run" in note for note in report.notes)
    assert [(child.settings["techniques__0__seed"], child.settings["techniques__1__seed"]) for child in report.children] == [(1, 1), (2, 2)]


@settings
class Scale(Technique):
    """Has no seed."""

    def apply(self, model, data):
        return Result(keras.models.clone_model(model))


def test_without_a_seed_a_builder_makes_the_difference(data):
    models, report = repeat(Scale(), seeds=(0, 1))(small, data)
    assert len(models) == 2 and any("no setting `seed`" in note for note in report.notes)
    with pytest.raises(ValueError, match="Scale has no setting `seed`"):
        repeat(Scale(), seeds=(0, 1))(small(data), data)


def test_several_models_a_seed(data):
    mutual = kdfuse.MutualLearning(training=FAST)
    models, report = repeat(mutual, seeds=(0, 1))([small, small], data)
    assert [len(one) for one in models] == [2, 2] and all(isinstance(model, keras.Model) for one in models for model in one)
    assert [row["model"] for row in report.tables["models"]] == ["student 1", "student 2"]
    assert {"mean/test/accuracy", "sd/mean/test/accuracy"} <= set(report.metrics)
    with pytest.raises(TypeError, match="`model` of MutualLearning: expected a list"):
        repeat(mutual)(small, data)


def test_in_a_chain(data):
    chain = Chain([repeat(FAST, (0, 1)), Firsts()])
    for given in (small(data), small):
        made, report = chain(given, data)
        first = FAST(small(data), data)[0]
        assert alike(made, first) and [child.name for child in report.children] == ["1. Repeat", "2. Firsts"]
    models, _ = Chain([repeat(FAST, (0, 1)), repeat(Chain([Firsts(), FAST]), (0, 1))])(small, data)
    assert len(models) == 2 and not alike(*models)


@settings
class Firsts(Technique):
    """The first of several."""

    takes_models = True

    def apply(self, model, data):
        return Result(model[0])


def test_the_moments():
    reports = [Report(metrics={"test/accuracy": value, "odd": 1.0}) for value in (0.5, 0.75, 0.7)]
    reports[0].metrics["test/ece"] = 0.1
    metrics, tables = summary(reports, (0, 1, 2))
    assert metrics == {"test/accuracy": pytest.approx(0.65), "sd/test/accuracy": pytest.approx(statistics.stdev([0.5, 0.75, 0.7]))}
    assert tables["spread"][0]["seed 1"] == 0.75 and len(tables["spread"]) == 1


def without_seed(data):
    return small(data)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda data: repeat("Train"), TypeError, "`technique`: expected a technique"),
        (lambda data: repeat(repeat(FAST)), TypeError, "`technique`: expected a technique"),
        (lambda data: repeat(FAST, seeds=(1,)), ValueError, "`seeds`: expected at least two different"),
        (lambda data: repeat(FAST, seeds=(1, 1, 2)), ValueError, "`seeds`: expected at least two different"),
        (lambda data: Repeat(FAST, seeds=(0, -1)), ValueError, "`seeds`: expected at least two different"),
        (lambda data: repeat(FAST)(without_seed, data), TypeError, "takes no `seed`"),
        (lambda data: repeat(FAST)(lambda data, seed: "model", data), TypeError, "expected a keras.Model of Keras 3"),
        (lambda data: repeat(FAST)(small, X), TypeError, "`data` of .*: expected a kdfuse.Data"),
        (lambda data: repeat(FAST)("net.keras", data), TypeError, "`model` of Train: expected a keras.Model"),
        (lambda data: repeat(Train(head="softmax"))(small, data), ValueError, "`head`"),
    ],
)
def test_refused_before_any_training(make, error, message, data, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *given, **extra: pytest.fail("training began"))
    with pytest.raises(error, match=message):
        make(data)
