"""Training rows without labels, and a transfer set that omits classes."""

from typing import Any

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.hard_labels import HardLabels
from kdfuse.distill.losses.logits_mse import LogitsMSE
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.distill.teachers import Teacher
from kdfuse.distill.unlabelled import decided
from kdfuse.settings import replace
from kdfuse.train import Train

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
FAST = Train(epochs=8, batch_size=32, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)


def mlp(units: int, columns: int = 10, activation: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(columns, activation)])


@pytest.fixture(scope="module")
def teacher() -> keras.Model:
    return FAST.apply(mlp(64), Data(train=(X[:600], Y[:600]))).model


def test_a_student_of_the_teacher_alone(teacher: keras.Model) -> None:
    data = Data(train=(X[600:1200], None), validation=(X[1200:1400], Y[1200:1400]), test=(X[1400:], Y[1400:]))
    assert not data.labelled and data.classes == 10 and data.task == "classification"
    student, report = Distill(teacher, label_weight=0, training=FAST)(mlp(12), data)
    assert report["test/accuracy"] > 0.75 and any("no labels" in note for note in report.notes)
    agreed = (teacher.predict(X[600:1200], verbose=0).argmax(-1) == student.predict(X[600:1200], verbose=0).argmax(-1)).mean()
    assert report.history["train/accuracy"][-1] == pytest.approx(agreed, abs=0.06)
    same = Data(train=(X[600:1200], Y[600:1200]))
    labelled = Distill(teacher, label_weight=0, training=FAST).apply(mlp(12), same).model
    for a, b in zip(student.get_weights(), labelled.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    hard = Distill(teacher, losses=[HardLabels()], label_weight=0, training=FAST, cache=False).apply(mlp(12), data).model
    assert not np.array_equal(hard.get_weights()[0], student.get_weights()[0])


def test_sample_weights_of_unlabelled_rows(teacher: keras.Model) -> None:
    few = np.where(np.arange(600) < 20, 1.0, 0.0).astype("float32")
    data = Data(train=(X[600:1200], None, few), test=(X[1400:], Y[1400:]))
    _, report = Distill(teacher, label_weight=0, training=FAST)(mlp(12), data)
    _, whole = Distill(teacher, label_weight=0, training=FAST)(mlp(12), Data(train=(X[600:1200], None), test=data.test))
    assert report["test/accuracy"] < whole["test/accuracy"]


LABELS = {
    "numbers": (Y, 10, None, SoftTargets()),
    "one column": (Y[:, None], 10, "softmax", SoftTargets()),
    "one-hot": (np.eye(10, dtype="float32")[Y], 10, None, SoftTargets()),
    "binary": ((Y > 4).astype("float32")[:, None], 1, "sigmoid", SoftTargets()),
    "multilabel": (np.stack([Y > 2, Y % 2, Y > 7], -1).astype("float32"), 3, "sigmoid", SoftTargets()),
    "regression": ((Y / 9).astype("float32")[:, None], 1, None, LogitsMSE()),
}


@pytest.mark.parametrize("form", LABELS)
def test_every_form_of_labels(form: str) -> None:
    y, columns, activation, loss = LABELS[form]
    model = mlp(64, columns, activation)
    data = Data(train=(X[:100], None), test=(X[100:200], y[100:200]))
    head = {"softmax": "softmax", "sigmoid": "sigmoid"}.get(str(activation), "regression" if form == "regression" else "logits")
    made: Any = decided(data, Teacher(model, head)).train
    outputs = model.predict(X[:100], verbose=0)
    if form == "regression":
        np.testing.assert_allclose(made.y, outputs, rtol=1e-5)
    elif activation == "sigmoid":
        np.testing.assert_array_equal(made.y, outputs > 0.5)
    else:
        decision = outputs.argmax(-1)
        expected = {"numbers": decision, "one column": decision[:, None], "one-hot": np.eye(10)[decision]}[form]
        np.testing.assert_array_equal(made.y, expected)
    assert made.y.dtype == data.train.y.dtype and made.y.shape == (100, *y.shape[1:])  # type: ignore[attr-defined]
    distil = Distill(model, losses=[loss], label_weight=0, training=replace(FAST, {"epochs": 1}))
    assert np.isfinite(distil(mlp(4, columns, activation), data)[1].history["train/loss"]).all()


def test_a_transfer_set_that_omits_classes(teacher: keras.Model) -> None:
    kept = np.flatnonzero(~np.isin(Y[:600], (3, 9)))
    data = Data(train=(X[:600][kept], Y[:600][kept]), test=(X[1400:], Y[1400:]), class_names=list("0123456789"))
    student = Distill(teacher, label_weight=0, training=FAST).apply(mlp(12), data).model
    plain = FAST.apply(mlp(12), data).model
    rows = 1400 + np.flatnonzero(np.isin(Y[1400:], (3, 9)))
    logits = [model.predict(X[rows], verbose=0) for model in (student, plain)]
    likely = [(z[np.arange(len(rows)), Y[rows]] - np.log(np.exp(z).sum(-1))).mean() for z in logits]
    assert likely[0] > likely[1] + 1  # the teacher told of classes that the student never saw


def test_what_needs_labels(teacher: keras.Model) -> None:
    data = Data(train=(X[:100], None), test=(X[100:200], Y[100:200]))
    with pytest.raises(ValueError, match="`label_weight`: the training rows have no labels"):
        Distill(teacher)(mlp(4), data)
    with pytest.raises(ValueError, match="`control`: without labels"):
        Distill(teacher, label_weight=0, control=True)(mlp(4), data)
    with pytest.raises(ValueError, match="`data`: the training rows have no labels"):
        FAST(mlp(4), data)
    with pytest.raises(ValueError, match="rows without labels need `validation` or `test`"):
        Data(train=(X[:100], None), validation=0.1)
