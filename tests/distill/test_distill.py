"""Distill on real digits: the student that comes back, the report, the settings, and what is refused."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.distill import cache as kept
from kdfuse.distill.distill import Distill
from kdfuse.distill.losses.hard_labels import HardLabels
from kdfuse.distill.losses.logit_standardization import LogitStandardization
from kdfuse.distill.losses.logits_mse import LogitsMSE
from kdfuse.distill.losses.soft_targets import SoftTargets
from kdfuse.settings import flatten, replace
from kdfuse.train import Train, Trainer

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
FAST = Train(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    kept.forget()


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(train=(X[:800], Y[:800]), validation=(X[800:1100], Y[800:1100]), test=(X[1100:], Y[1100:]), name="digits")


@pytest.fixture(scope="module")
def bare() -> Data:
    """Nothing to measure on: for tests that look at the trained weights alone."""
    return Data(train=(X[:800], Y[:800]), name="digits")


def mlp(*units: int, columns: int = 10, seed: int = 0, activation: str | None = None, width: int = 64) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(count, "relu") for count in units]
    return keras.Sequential([keras.Input((width,)), *layers, keras.layers.Dense(columns, activation)])


@pytest.fixture(scope="module")
def teacher(data: Data) -> keras.Model:
    model = mlp(128, seed=7, activation="softmax")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X[:800], Y[:800], epochs=25, verbose=0)
    return model


def weights_of(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.get_weights()]


def alike(one: keras.Model, other: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_student_that_stands_alone(teacher: keras.Model, data: Data, tmp_path: Path) -> None:
    given, before = mlp(8), weights_of(teacher)
    start = weights_of(given)
    student, report = Distill(teacher, losses=[SoftTargets(2.0)], training=replace(FAST, {"epochs": 12}), label_weight=0.1)(given, data)
    assert all(np.array_equal(a, b) for a, b in zip(start, given.get_weights(), strict=True)) and not given.compiled
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True)) and teacher.compiled
    assert type(student) is keras.Sequential and [layer.name for layer in student.layers] == [layer.name for layer in given.layers]
    assert report["test/accuracy"] > 0.75 and 0.75 < report["kd/agreement"] <= 1
    assert {"delta/teacher/test/accuracy", "delta/teacher/size/parameters"} <= set(report.metrics)
    assert [row["model"] for row in report.tables["models"]] == ["student", "teacher"]
    assert {"train/loss", "train/label_loss", "train/soft_targets_loss", "validation/loss"} <= set(report.history)
    assert not any(name.startswith("validation/") and "soft_targets" in name for name in report.history)
    assert any("computed once" in note for note in report.notes)
    student.save(tmp_path / "student.keras")
    with zipfile.ZipFile(tmp_path / "student.keras") as kept_file:
        assert "kdfuse" not in kept_file.read("config.json").decode()  # tests/recipes/test_quickstart.py loads one without kdfuse
    again = keras.saving.load_model(tmp_path / "student.keras")
    assert again.count_params() == student.count_params() == given.count_params()
    assert np.isfinite(again.evaluate(X[:20], np.zeros(20), verbose=0)).all()
    np.testing.assert_allclose(again.predict(X[:20], verbose=0), student.predict(X[:20], verbose=0), rtol=1e-5, atol=1e-6)


def test_control(teacher: keras.Model, data: Data) -> None:
    student, report = Distill(teacher, training=FAST, control=True)(mlp(8), data)
    plain, alone = FAST(mlp(8), data)
    assert [row["model"] for row in report.tables["models"]] == ["student", "teacher", "control"]
    assert [child.name for child in report.children] == ["control"]
    assert report.children[0].metrics["test/accuracy"] == alone.metrics["test/accuracy"]
    difference = report.metrics["test/accuracy"] - alone.metrics["test/accuracy"]
    assert report.metrics["delta/control/test/accuracy"] == pytest.approx(difference)
    assert not alike(student, plain)


def test_the_teachers_outputs_are_computed_once(teacher: keras.Model, bare: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    fill = kept._fill
    monkeypatch.setattr(kept, "_fill", lambda *given: (computed.append(1), fill(*given)))

    def distil(cache: Any, one: keras.Model = teacher) -> tuple[keras.Model, str]:
        made = Distill(one, training=FAST, cache=cache).apply(mlp(8), bare)
        return made.model, " ".join(made.notes)

    results = {cache: distil(cache) for cache in ("auto", True, "memory", "disk", False)}
    assert len(computed) == 2  # in memory and on disk
    notes = {cache: said for cache, (_, said) in results.items()}
    assert "computed once" in notes["auto"] and "taken from memory" in notes[True] and "ran in every step" in notes[False]
    for cache, (student, _) in results.items():
        assert alike(student, results["auto"][0]) or cache is False
    for a, b in zip(results["auto"][0].get_weights(), results[False][0].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    other = keras.models.clone_model(teacher)
    other.set_weights([weight * 1.5 for weight in teacher.get_weights()])
    assert not alike(distil("auto", other)[0], results["auto"][0]) and len(computed) == 3


def test_streams(teacher: keras.Model, data: Data) -> None:
    weights = np.linspace(0, 2, 800, dtype="float32")
    stream = Data(train=tf.data.Dataset.from_tensor_slices((X[:800], Y[:800], weights)).batch(64), test=(X[1100:], Y[1100:]))
    student, report = Distill(teacher, training=FAST)(mlp(8), stream)
    assert any("ran in every step" in note for note in report.notes)
    with pytest.raises(ValueError, match="`cache`: the training split is a stream"):
        Distill(teacher, training=FAST, cache=True)(mlp(8), stream)
    unweighted = Data(train=tf.data.Dataset.from_tensor_slices((X[:800], Y[:800])).batch(64))
    assert not alike(student, Distill(teacher, training=FAST).apply(mlp(8), unweighted).model)


CHANGES = {
    "losses": (HardLabels(),),
    "losses__0__temperature": 9.0,
    "training__learning_rate": 0.02,
    "training__epochs": 1,
    "label_weight": 0.1,
    "loss_weights": (3.0,),
}


def fitted(technique: Distill, data: Data) -> keras.Model:
    model = mlp(8)
    technique.fit(model, data)
    return model


@pytest.fixture(scope="module")
def plain(teacher: keras.Model, bare: Data) -> keras.Model:
    return fitted(Distill(teacher, training=FAST), bare)


def test_the_same_settings_give_the_same_student(plain: keras.Model, teacher: keras.Model, bare: Data) -> None:
    assert alike(plain, fitted(Distill(teacher, training=FAST), bare))


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_the_student(name: str, plain: keras.Model, teacher: keras.Model, bare: Data) -> None:
    assert not alike(plain, fitted(replace(Distill(teacher, training=FAST), {name: CHANGES[name]}), bare))


@pytest.mark.parametrize("cache", ["auto", False])
def test_an_interrupted_call_goes_on_where_it_was(cache: Any, teacher: keras.Model, bare: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.3), keras.layers.Dense(10)]
    given = keras.Sequential([keras.Input((64,)), *layers])
    distil = Distill(teacher, training=Train(epochs=4, batch_size=64, decay="cosine"), cache=cache)
    undisturbed, whole = distil(given, bare)
    log = recording.Run.log

    def stop(run: recording.Run, values: Any, step: int | None = None) -> None:
        log(run, values, step)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recording.Run, "log", stop)
        distil(given, bare)
    resumed, report = distil(given, bare)
    assert any("Resumed at epoch" in note for note in report.notes)
    assert alike(undisturbed, resumed) and report.history == whole.history


def test_loss_weights_share_what_the_labels_leave(teacher: keras.Model, bare: Data) -> None:
    losses = (SoftTargets(2.0), LogitStandardization())
    models = [mlp(8), mlp(8)]
    for model, weights in zip(models, (None, (0.4, 0.4)), strict=True):
        Distill(teacher, losses=losses, training=FAST, label_weight=0.2, loss_weights=weights).fit(model, bare)
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_settings_are_flat(teacher: keras.Model) -> None:
    names = flatten(
        Distill(teacher, losses=[SoftTargets(2.0), LogitsMSE()]), leaf=lambda value: "m" if isinstance(value, keras.Model) else None
    )
    assert names["teacher"] == "m" and names["losses__0"] == "SoftTargets" and names["losses__0__temperature"] == 2.0
    assert names["losses__1"] == "LogitsMSE" and names["training__epochs"] == 10 and names["loss_weights"] is None
    assert isinstance(Distill(teacher), Trainer)


def test_a_compiled_student_keeps_its_loss(teacher: keras.Model, bare: Data) -> None:
    given = mlp(8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    given.compile("sgd", loss, metrics=["accuracy"])
    result = Distill(teacher, training=replace(FAST, {"learning_rate": 0.001})).apply(given, bare)
    assert result.history["train/label_loss"][0] > 30  # a sum over the batch
    assert result.model.compiled and result.model.loss.reduction == "sum"


def test_several_outputs(data: Data) -> None:
    keras.utils.set_random_seed(0)
    y = {"digit": Y[:800], "ink": X[:800].mean(-1, keepdims=True)}
    both = Data(train=(X[:800], y), test=(X[:200], {name: value[:200] for name, value in y.items()}))

    def model(units: int) -> keras.Model:
        inputs = keras.Input((64,))
        hidden = keras.layers.Dense(units, "relu")(inputs)
        return keras.Model(inputs, {"digit": keras.layers.Dense(10, "softmax")(hidden), "ink": keras.layers.Dense(1)(hidden)})

    losses = (SoftTargets(2.0, output="digit"), LogitsMSE(output="ink"))
    taught = FAST.apply(model(64), both).model
    _, report = Distill(taught, losses=losses, training=FAST)(model(8), both)
    assert {"train/soft_targets_loss", "train/logits_mse_loss"} <= set(report.history) and "test/digit/accuracy" in report.metrics
    with pytest.raises(ValueError, match="SoftTargets needs a head of .* Received: head='regression'"):
        Distill(taught, training=FAST)(model(8), both)
    with pytest.raises(ValueError, match="has 2 outputs, the student .* has 1"):
        Distill(taught, training=FAST).check(mlp(8), data)


@pytest.mark.parametrize("form", ["sigmoid", "multilabel", "regression"])
def test_other_heads(form: str) -> None:
    y = {
        "sigmoid": (Y > 4).astype("float32")[:, None],
        "multilabel": np.stack([Y > 2, Y % 2, Y > 7], -1).astype("float32"),
        "regression": Y[:, None] / 9.0,
    }[form]
    made = Data(train=(X[:800], y[:800].astype("float32")), test=(X[800:], y[800:].astype("float32")))
    columns, activation = y.shape[-1], None if form == "regression" else "sigmoid"
    loss = LogitsMSE() if form == "regression" else SoftTargets(2.0)
    taught = FAST.apply(mlp(64, columns=columns, activation=activation), made).model
    student, report = Distill(taught, losses=[loss], training=FAST)(mlp(8, columns=columns), made)
    assert np.isfinite(report.history[f"train/{loss.name}_loss"]).all()
    assert student.layers[-1].activation is keras.activations.linear


def broken(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights([weight * np.nan for weight in model.get_weights()])
    return copy


REFUSED = {
    "teacher is no model": (lambda t: {"teacher": "teacher.keras"}, TypeError, "`teacher`: expected a trained keras.Model"),
    "teacher without weights": (lambda t: {"teacher": keras.Sequential([keras.layers.Dense(10)])}, ValueError, "has no weights yet"),
    "no losses": (lambda t: {"losses": ()}, TypeError, "`losses`: expected a list of one or more losses"),
    "a loss alone": (lambda t: {"losses": SoftTargets()}, TypeError, "`losses`: expected a list"),
    "a loss of labels": (lambda t: {"losses": [keras.losses.KLDivergence()]}, TypeError, "expected distillation losses"),
    "a loss inside": (
        lambda t: {"losses": [keras.distillation.FeatureDistillation("mse", "dense", "dense")]},
        ValueError,
        "projectors would not be trained",
    ),
    "training": (lambda t: {"training": 30}, TypeError, r"`training`: expected kdfuse.Train"),
    "label weight": (lambda t: {"label_weight": -0.1}, ValueError, "`label_weight`: expected numbers from 0"),
    "label weight of one": (lambda t: {"label_weight": 1.0}, ValueError, "leaving nothing"),
    "a weight too many": (lambda t: {"loss_weights": (1.0, 1.0)}, ValueError, "`loss_weights`: expected 1, one for each loss"),
    "a negative weight": (lambda t: {"loss_weights": (-1.0,)}, ValueError, "`loss_weights`: expected numbers from 0"),
    "no weight": (lambda t: {"loss_weights": (0.0,)}, ValueError, "the teacher has no say"),
    "cache": (lambda t: {"cache": "dsik"}, ValueError, "Did you mean 'disk'"),
    "control": (lambda t: {"control": "yes"}, ValueError, "`control`: expected True or False"),
    "unknown": (lambda t: {"temperatur": 3.0}, TypeError, "Distill has no setting 'temperatur'"),
    "teacher of other classes": (
        lambda t: {"teacher": mlp(8, columns=9)},
        ValueError,
        r"The teacher gives \(2, 9\), the student \(2, 10\)",
    ),
    "teacher of other inputs": (lambda t: {"teacher": mlp(8, width=32)}, ValueError, "does not take the inputs of the data, of shape"),
    "teacher head": (lambda t: {"teacher_head": "logits"}, ValueError, "`teacher`: .* does not fit. .*softmax"),
    "student head": (lambda t: {"training": Train(head="softmax")}, ValueError, "`head`"),
    "standardised pair": (
        lambda t: {"teacher": mlp(8, columns=2), "losses": [LogitStandardization()]},
        ValueError,
        "one shape|at least 3 classes",
    ),
    "teacher of NaN": (lambda t: {"teacher": broken(t)}, ValueError, "NaN or infinity for training row 0|not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case: str, teacher: keras.Model, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*given: Any, **extra: Any) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(keras.Model, "fit", fit)
    change, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        Distill(**{"teacher": teacher, "training": FAST, **change(teacher)})(mlp(8), data)


def test_a_teacher_cannot_be_left_out(data: Data) -> None:
    with pytest.raises(TypeError, match="teacher"):
        Distill()  # type: ignore[call-arg]


def test_events_of_the_run(teacher: keras.Model, bare: Data) -> None:
    with recording.use(recording.Memory()) as memory:
        Distill(teacher, training=FAST)(mlp(8), bare)
    logged = [arguments for hook, arguments in memory.events if hook == "log" and arguments[2] is not None]
    steps = {arguments[2] for arguments in logged if "train/soft_targets_loss" in arguments[1]}
    assert len(steps) == 2


MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import json, kdfuse as kf
from sklearn.datasets import load_digits
x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
data = kf.Data(train=(x[:330], y[:330]), validation=(x[400:500], y[400:500]))
model, teacher = kf.models.mlp(data, units=(16,)), kf.models.mlp(data, units=(32,), seed=3)
def trained(strategy):
    training = kf.Train(epochs=2, optimizer="momentum", decay="cosine", learning_rate=0.05, l2=1e-3, strategy=strategy)
    for technique in (training, kf.Distill(teacher, training=training)):
        result = technique.apply(model, data)
        yield result.history["train/loss"], [weight.tolist() for weight in result.model.get_weights()]
print(json.dumps(list(zip(trained(None), trained("mirrored")))))
"""


def test_two_devices_train_as_one():
    """With checkpoints, decay and L2: on logical CPU devices, in a process that has two of them."""
    done = subprocess.run([sys.executable, "-c", MIRRORED], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for (loss, weights), (loss_mirrored, weights_mirrored) in json.loads(done.stdout.splitlines()[-1]):
        assert loss == pytest.approx(loss_mirrored, rel=1e-5)
        for ours, theirs in zip(weights, weights_mirrored, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
