"""BornAgain on real digits: each generation learns from the one before."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.distill import generations
from kdfuse.distill.generations import BornAgain
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.settings import replace
from kdfuse.train import Train

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
FAST = Train(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)
ADAM = {"optimizer": "adam", "learning_rate": 0.01}  # where a test asks how well a model learns


@pytest.fixture(scope="module")
def data():
    return Data(train=(X[:600], Y[:600]), validation=(X[600:900], Y[600:900]), test=(X[900:1200], Y[900:1200]), name="digits")


@pytest.fixture(scope="module")
def bare():
    """Nothing to measure on: for tests that look at the trained weights alone."""
    return Data(train=(X[:600], Y[:600]), name="digits")


def mlp(units=12, seed=0):
    keras.utils.set_random_seed(seed)
    glorot = keras.initializers.GlorotUniform(seed=3)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(units, "relu", kernel_initializer=glorot), keras.layers.Dense(10)])


def alike(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_all_generations_come_back(data):
    given, memory = mlp(), recording.Memory()
    before = given.get_weights()
    with recording.use(memory):
        models, report = BornAgain(generations=2, training=replace(FAST, {"epochs": 6, **ADAM}))(given, data)
    assert all(np.array_equal(a, b) for a, b in zip(before, given.get_weights(), strict=True))
    assert len(models) == 3 and {type(model) for model in models} == {keras.Sequential}
    assert alike(models[0], replace(FAST, {"epochs": 6, **ADAM}).apply(given, data).model)
    assert [row["model"] for row in report.tables["models"]] == ["generation 0", "generation 1", "generation 2"]
    for model, row in zip(models, report.tables["models"], strict=True):
        assert row["test/accuracy"] == pytest.approx((np.asarray(model(X[900:1200])).argmax(-1) == Y[900:1200]).mean())
        assert row["test/accuracy"] > 0.7
    assert [child.name for child in report.children] == ["generation 0", "generation 1", "generation 2"]
    assert [child.technique for child in report.children] == ["Train", "Distill", "Distill"]
    last, before_it = report.tables["models"][2], report.tables["models"][1]
    assert report["test/accuracy"] == last["test/accuracy"] and "generation 2, the last of 3" in report.notes[0]
    assert report.metrics["delta/teacher/test/log_loss"] == pytest.approx(last["test/log_loss"] - before_it["test/log_loss"])
    assert report.metrics["mean/test/accuracy"] == pytest.approx(np.mean([row["test/accuracy"] for row in report.tables["models"]]))
    runs = {arguments[0].name: arguments[0] for hook, arguments in memory.events if hook == "start"}
    assert runs["generation 2"].parent is runs["BornAgain"] and runs["generation 2"].tags["teacher_run"] == runs["generation 1"].id
    assert runs["BornAgain"].tags["generation_1_run"] == runs["generation 1"].id
    recorded = [arguments[1] for hook, arguments in memory.events if hook == "model"]
    assert [id(model) for model in recorded] == [id(model) for model in models], "each once"


def test_new_weights_each_time_although_the_seed_is_fixed(teacher, bare, monkeypatch):
    begun, renew = [], generations.renew
    monkeypatch.setattr(generations, "renew", lambda *given: begun.append(renew(*given)) or begun[-1])
    technique = BornAgain(generations=2, training=FAST, teacher=teacher)
    first = technique.apply(mlp(), bare).model
    kernels = [mlp().layers[0].kernel, *(model.layers[0].kernel for model in begun)]
    assert len(kernels) == 3 and not np.array_equal(kernels[0], kernels[1]) and not np.array_equal(kernels[1], kernels[2])
    again = technique.apply(mlp(), bare).model
    assert all(map(alike, first, again))
    replace(technique, {"training__seed": 1, "generations": 1}).apply(mlp(), bare)
    assert not np.array_equal(begun[0].layers[0].kernel, begun[-1].layers[0].kernel)


def test_a_given_teacher_is_generation_0(teacher, data):
    models, report = BornAgain(generations=1, training=FAST, teacher=teacher)(mlp(), data)
    assert models[0] is teacher and len(models) == 2 and len(report.children) == 1
    assert report.tables["models"][0]["size/parameters"] == teacher.count_params()
    assert report.metrics["delta/teacher/size/parameters"] == models[1].count_params() - teacher.count_params()


CHANGES = {"losses": (SoftTargets(5.0),), "training__learning_rate": 0.02, "label_weight": 0.0, "loss_weights": (3.0,)}


@pytest.fixture(scope="module")
def teacher(bare):
    return FAST.apply(mlp(32, seed=5), bare).model


@pytest.fixture(scope="module")
def plain(teacher, bare):
    return born(BornAgain(generations=1, training=FAST, teacher=teacher), bare)


def born(technique, data):
    with recording.silence():
        return technique.apply(mlp(), data).model[-1]


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_what_is_born(name, plain, teacher, bare):
    assert not alike(plain, born(replace(BornAgain(generations=1, training=FAST, teacher=teacher), {name: CHANGES[name]}), bare))


REFUSED = {
    "generations": ({"generations": 0}, ValueError, "`generations`: expected an integer of at least 1"),
    "losses": ({"losses": ()}, TypeError, "`losses`: expected a list"),
    "training": ({"training": 3}, TypeError, "`training`: expected kdfuse.Train"),
    "label weight": ({"label_weight": 1.0}, ValueError, "leaving nothing"),
    "loss weights": ({"loss_weights": (1.0, 1.0)}, ValueError, "`loss_weights`: expected 1"),
    "teacher": ({"teacher": "t.keras"}, TypeError, "`teacher`: expected a trained keras.Model"),
    "teacher of other classes": (
        {"teacher": keras.Sequential([keras.Input((64,)), keras.layers.Dense(9)])},
        ValueError,
        "The teacher gives",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case, data, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *given, **extra: pytest.fail("training began"))
    settings, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        BornAgain(**{"training": FAST, **settings})(mlp(), data)
