"""MutualLearning on real digits: the students that come back, the report, the settings, and what is refused."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.distill.losses.hints import Hints
from kdfuse.distill.losses.logits_mse import LogitsMSE
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.distill.mutual import MutualLearning
from kdfuse.fitting.stopping import Stopping
from kdfuse.settings import replace
from kdfuse.train import Train

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
FAST = Train(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)
ADAM = {"optimizer": "adam", "learning_rate": 0.01}  # where a test asks how well a model learns


@pytest.fixture(scope="module")
def data():
    return Data(train=(X[:800], Y[:800]), validation=(X[800:1100], Y[800:1100]), test=(X[1100:], Y[1100:]), name="digits")


@pytest.fixture(scope="module")
def bare():
    """Nothing to measure on: for tests that look at the trained weights alone."""
    return Data(train=(X[:800], Y[:800]), name="digits")


def mlp(*units, seed=0, activation=None, columns=10, dropout=0.0):
    keras.utils.set_random_seed(seed)
    hidden = [layer for count in units for layer in (keras.layers.Dense(count, "relu"), keras.layers.Dropout(dropout))]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(columns, activation)])


def pair():
    return [mlp(16, seed=1), mlp(24, 12, seed=2, activation="softmax")]


def alike(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_two_unequal_students_come_back(data):
    given = pair()
    given[1].compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy", "sparse_top_k_categorical_accuracy"])
    before = [[np.array(weight) for weight in model.get_weights()] for model in given]
    memory = recording.Memory()
    with recording.use(memory):
        students, report = MutualLearning(training=replace(FAST, {"epochs": 8, **ADAM}), control=True)(given, data)
    assert type(students) is tuple and [type(student) for student in students] == [keras.Sequential] * 2
    for model, start in zip(given, before, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(start, model.get_weights(), strict=True))
    assert (
        not given[0].compiled and type(given[1].optimizer) is keras.optimizers.SGD and type(students[1].optimizer) is keras.optimizers.SGD
    )
    for student, row in zip(students, report.tables["models"], strict=False):
        chosen = np.asarray(student(X[1100:])).argmax(-1)
        assert row["test/accuracy"] == pytest.approx((chosen == Y[1100:]).mean()) and row["test/accuracy"] > 0.8
        assert student.evaluate(X[1100:], Y[1100:], verbose=0, return_dict=True)["accuracy"] == pytest.approx(row["test/accuracy"])
    assert [row["model"] for row in report.tables["models"]] == ["student 1", "student 2", "control 1", "control 2"]
    rows = {row["model"]: row for row in report.tables["models"]}
    best = max(("student 1", "student 2"), key=lambda row: rows[row]["validation/accuracy"])
    assert report["test/accuracy"] == rows[best]["test/accuracy"] and best in report.notes[0]
    assert report.metrics["mean/test/accuracy"] == pytest.approx(np.mean([rows[f"student {k}"]["test/accuracy"] for k in (1, 2)]))
    own = rows[f"control {best[-1]}"]
    assert report.metrics["delta/control/test/log_loss"] == pytest.approx(rows[best]["test/log_loss"] - own["test/log_loss"])
    assert [child.name for child in report.children] == ["control 1", "control 2"]
    assert {"train/loss", "train/student_1/soft_targets_loss", "validation/student_2/accuracy", "validation/accuracy"} <= set(
        report.history
    )
    assert "train/student_2/sparse_top_k_categorical_accuracy" in report.history
    assert report.history["train/soft_targets_loss"][-1] < report.history["train/label_loss"][-1]
    recorded = {arguments[3]: arguments[1] for hook, arguments in memory.events if hook == "model" and arguments[0].parent is None}
    assert recorded == {"student_1": students[0], "student_2": students[1]}
    alone = [arguments[1] for hook, arguments in memory.events if hook == "model" and arguments[0].parent is not None]
    assert gap(students) < 0.9 * gap(alone), "they agree more than those trained alone"


def gap(models):
    """The mean distance of two models' probabilities."""
    p, q = (np.asarray(model(X[1100:])) for model in models)
    return np.abs(np.asarray(keras.ops.softmax(p)) - q).mean()


CHANGES = {
    "losses": (LogitsMSE(),),
    "losses__0__temperature": 5.0,
    "training__class_weight": {0: 9.0},
    "label_weight": 0.1,
    "loss_weights": (4.0,),
}


@pytest.fixture(scope="module")
def plain(bare):
    return MutualLearning(training=FAST).apply(pair(), bare).model


def test_the_same_settings_give_the_same_students(plain, bare):
    again = MutualLearning(training=FAST).apply(pair(), bare).model
    assert all(map(alike, plain, again))


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_the_students(name, plain, bare):
    changed = replace(MutualLearning(training=FAST), {name: CHANGES[name]}).apply(pair(), bare).model
    assert not alike(plain[0], changed[0]) and not alike(plain[1], changed[1])


def test_an_interrupted_call_goes_on_where_it_was(data, monkeypatch):
    resumable = {"optimizer": "momentum", "learning_rate": 0.05, "decay": "cosine", "checkpoint": 1}
    mutual = MutualLearning(training=replace(FAST, {**resumable, "stopping": Stopping("validation/accuracy", 3)}))
    given = [mlp(8, seed=1, dropout=0.3), mlp(12, seed=2)]
    undisturbed, whole = mutual(given, data)
    log = recording.Run.log

    def stop(run, values, step=None):
        log(run, values, step)
        if step == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recording.Run, "log", stop)
        mutual(given, data)
    resumed, report = mutual(given, data)
    assert any("Resumed at epoch" in note for note in report.notes)
    assert all(map(alike, undisturbed, resumed)) and report.history == whole.history


def test_sample_weights_and_mixed_precision(data):
    weighted = Data(train=(X[:800], Y[:800], np.linspace(0, 2, 800, dtype="float32")), validation=(X[800:], Y[800:]))
    result = MutualLearning(training=replace(FAST, {"precision": "mixed_float16", "epochs": 3, **ADAM})).apply(pair(), weighted)
    for student in result.model:
        assert student.dtype_policy.name == "float32" and {layer.dtype_policy.name for layer in student.layers} == {"float32"}
        assert (np.asarray(student(X[800:])).argmax(-1) == Y[800:]).mean() > 0.5
    assert np.isfinite(result.history["train/loss"]).all() and result.history["train/loss"][-1] < result.history["train/loss"][0]


class Own(keras.Model):
    def __init__(self, units=8, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first, self.last = keras.layers.Dense(units, "relu"), keras.layers.Dense(10)

    def call(self, x):
        return self.last(self.first(x))

    def get_config(self):
        return {"units": self.units}


def test_a_subclassed_student_and_a_stream(data):
    import tensorflow as tf

    stream = Data(train=tf.data.Dataset.from_tensor_slices((X[:800], Y[:800])).batch(64), validation=(X[800:], Y[800:]))
    own = Own(12)
    own(X[:2])
    students, report = MutualLearning(training=FAST)([own, mlp(8)], stream)
    assert type(students[0]) is Own and any("stream" in note for note in report.notes)


REFUSED = {
    "one student": (lambda: ({}, [mlp(8)]), ValueError, "expected two or more students"),
    "no list": (lambda: ({}, mlp(8)), TypeError, r"`model` of MutualLearning: expected a list of models"),
    "a builder": (lambda: ({}, [mlp(8), mlp]), TypeError, "Received the builder"),
    "equal students": (lambda: ({}, [mlp(8), mlp(9), mlp(8)]), ValueError, "students 1 and 3 are equal"),
    "other classes": (lambda: ({}, [mlp(8), mlp(8, columns=9)]), ValueError, "Student 2: `model`: expected 10 units"),
    "no losses": (lambda: ({"losses": ()}, pair()), TypeError, "`losses`: expected a list"),
    "a loss inside": (lambda: ({"losses": [Hints("dense", "dense")]}, pair()), ValueError, "reads layers inside a teacher"),
    "training": (lambda: ({"training": 3}, pair()), TypeError, "`training`: expected kdfuse.Train"),
    "weights": (lambda: ({"loss_weights": (1.0, 2.0)}, pair()), ValueError, "`loss_weights`: expected 1"),
    "no weight": (lambda: ({"loss_weights": (0.0,)}, pair()), ValueError, "`loss_weights`: all are 0"),
    "label weight": (lambda: ({"label_weight": -1}, pair()), ValueError, "`label_weight`: expected numbers from 0"),
    "control": (lambda: ({"control": 1}, pair()), ValueError, "`control`: expected True or False"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case, data, monkeypatch):
    def fit(*given, **extra):
        raise AssertionError("training began")

    monkeypatch.setattr(keras.Model, "fit", fit)
    make, error, message = REFUSED[case]
    settings, models = make()
    with pytest.raises(error, match=message):
        MutualLearning(**{"training": FAST, **settings})(models, data)


def test_a_regression_is_learnt_by_values():
    values = Data(train=(X[:400], Y[:400, None] / 9.0), validation=(X[400:600], Y[400:600, None] / 9.0))
    models = [mlp(8, seed=1, columns=1), mlp(8, seed=2, columns=1)]
    with pytest.raises(ValueError, match="Student 1: SoftTargets needs a head of"):
        MutualLearning(training=FAST)(models, values)
    _, report = MutualLearning([SoftTargets(1.0), LogitsMSE()][1:], training=FAST)(models, values)
    assert "mean/validation/rmse" in report.metrics and "best on validation" in report.notes[0]
