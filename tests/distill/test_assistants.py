"""AssistantChain on real digits: the steps, the student, and what is refused."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.distill.assistants import AssistantChain
from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.settings import replace
from kdfuse.train import Train

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
FAST = Train(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)


@pytest.fixture(scope="module")
def data():
    return Data(train=(X[:600], Y[:600]), validation=(X[600:900], Y[600:900]), test=(X[900:1200], Y[900:1200]), name="digits")


@pytest.fixture(scope="module")
def bare():
    """Nothing to measure on: for tests that look at the trained weights alone."""
    return Data(train=(X[:600], Y[:600]), name="digits")


def mlp(units, seed=0, columns=10, name=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(columns)], name=name)


@pytest.fixture(scope="module")
def teacher(bare):
    return replace(FAST, {"epochs": 8}).apply(mlp(96, seed=7, name="large"), bare).model


def alike(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_the_student_learns_from_the_last_assistant(teacher, data):
    assistants = [mlp(48, seed=1, name="big"), mlp(24, seed=2, name="middle")]
    before = [assistant.get_weights() for assistant in assistants]
    memory = recording.Memory()
    with recording.use(memory):
        student, report = AssistantChain(teacher, assistants, training=FAST, control=True)(mlp(8, name="small"), data)
    distil = Distill(teacher, losses=[SoftTargets()], training=FAST)
    big = distil.apply(assistants[0], data).model
    middle = replace(distil, {"teacher": big}).apply(assistants[1], data).model
    assert alike(student, replace(distil, {"teacher": middle}).apply(mlp(8), data).model) and not alike(
        student, distil.apply(mlp(8), data).model
    )
    for assistant, weights in zip(assistants, before, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(weights, assistant.get_weights(), strict=True))
    assert [row["model"] for row in report.tables["steps"]] == ["1. big", "2. middle", "3. small"]
    assert [child.name for child in report.children] == ["1. big", "2. middle", "3. small", "control"]
    assert [row["model"] for row in report.tables["models"]] == ["student", "teacher", "control"]
    assert report["test/accuracy"] == report.tables["steps"][2]["test/accuracy"]
    assert report.metrics["delta/teacher/size/parameters"] == student.count_params() - teacher.count_params()
    assert "delta/control/test/accuracy" in report.metrics and "train/soft_targets_loss" in report.history
    runs = {arguments[0].name: arguments[0] for hook, arguments in memory.events if hook == "start"}
    assert runs["2. middle"].parent is runs["AssistantChain"] and runs["2. middle"].tags["teacher_run"] == runs["1. big"].id


CHANGES = {"losses": (SoftTargets(1.0),), "training__learning_rate": 0.02, "label_weight": 0.1, "loss_weights": (3.0,)}


def student_of(technique, data):
    with recording.silence():
        return technique.apply(mlp(8), data).model


@pytest.fixture(scope="module")
def chain(teacher):
    return AssistantChain(teacher, [mlp(24, seed=2)], training=FAST)


@pytest.fixture(scope="module")
def plain(chain, bare):
    return student_of(chain, bare)


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_the_student(name, chain, plain, bare):
    assert not alike(plain, student_of(replace(chain, {name: CHANGES[name]}), bare))


def test_the_assistants_and_the_teacher_change_the_student(teacher, plain, bare):
    assert not alike(plain, student_of(AssistantChain(teacher, [mlp(24, seed=3)], training=FAST), bare))
    assert not alike(plain, student_of(AssistantChain(mlp(96, seed=9), [mlp(24, seed=2)], training=FAST), bare))


REFUSED = {
    "teacher": (lambda t: {"teacher": None}, TypeError, "`teacher`: expected a trained keras.Model"),
    "no assistants": (lambda t: {"assistants": []}, TypeError, "`assistants`: expected a list of one or more"),
    "an assistant alone": (lambda t: {"assistants": mlp(24)}, TypeError, "`assistants`: expected a list"),
    "a builder": (lambda t: {"assistants": [mlp]}, TypeError, "`assistants`: expected a list of one or more keras.Model"),
    "the wrong order": (lambda t: {"assistants": [mlp(16), mlp(32)]}, ValueError, "`assistants`: expected them from the largest"),
    "smaller than the student": (lambda t: {"assistants": [mlp(4)]}, ValueError, "`assistants`: expected them from the largest"),
    "other classes": (lambda t: {"assistants": [mlp(24, columns=9)]}, ValueError, "Step 1, 'large' to 'sequential.*expected 10 units"),
    "weights": (lambda t: {"loss_weights": (0.0,)}, ValueError, "the teacher has no say"),
    "control": (lambda t: {"control": None}, ValueError, "`control`: expected True or False"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case, teacher, data, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *given, **extra: pytest.fail("training began"))
    change, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        AssistantChain(**{"teacher": teacher, "assistants": [mlp(24)], "training": FAST, **change(teacher)})(mlp(8), data)
