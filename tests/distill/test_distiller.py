"""The Distiller: what a step computes, what it runs, what it leaves alone."""

import json
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.distill.distiller import Distiller
from kdfuse.distill.lessons import INPUTS, LESSONS
from kdfuse.distill.losses.hard_labels import HardLabels
from kdfuse.distill.losses.logits_mse import LogitsMSE
from kdfuse.distill.losses.soft_targets import SoftTargets

ROWS, COLUMNS, CLASSES = 48, 6, 4
X = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype("float32")
Y = np.random.default_rng(1).integers(0, CLASSES, ROWS)
CE = keras.losses.SparseCategoricalCrossentropy


def mlp(units: int = 5, activation: str | None = None, seed: int = 0, **dense: Any) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((COLUMNS,)), keras.layers.Dense(units, "relu", **dense), keras.layers.Dense(CLASSES, activation)]
    return keras.Sequential(layers)


def distiller(student: keras.Model, losses: Any = None, teacher: keras.Model | None = None, **extra: Any) -> Distiller:
    return Distiller(student, losses or [SoftTargets(3.0)], teacher=teacher or mlp(9, seed=1), **extra)


def packed(targets: Any, x: Any = X) -> dict[str, Any]:
    return {INPUTS: x, LESSONS: ({"logits": targets},)}


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kd(teacher: np.ndarray, student: np.ndarray, temperature: float) -> np.ndarray:
    """Soft targets per row, in float64."""
    p_t, p_s = softmax(teacher.astype("float64") / temperature), softmax(student.astype("float64") / temperature)
    return temperature**2 * (p_t * (np.log(p_t) - np.log(p_s))).sum(-1)


def ce(student: np.ndarray, labels: np.ndarray = Y) -> np.ndarray:
    return -np.log(softmax(student.astype("float64")))[np.arange(len(labels)), labels]


def weights_of(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.get_weights()]


def values(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [np.copy(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable))) for variable in variables]


def same(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


class Counted(keras.layers.Layer):
    """Counts the forward passes that a compiled step really runs."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int32", name="count")

    def call(self, inputs: Any) -> Any:
        self.count.assign_add(1)
        return inputs


def counted(units: int, seed: int) -> tuple[keras.Model, Counted]:
    keras.utils.set_random_seed(seed)
    layer = Counted()
    return keras.Sequential([keras.Input((COLUMNS,)), layer, keras.layers.Dense(units, "relu"), keras.layers.Dense(CLASSES)]), layer


@pytest.mark.parametrize("live", [True, False])
def test_one_forward_each_a_step(live: bool) -> None:
    (student, student_calls), (teacher, teacher_calls) = counted(5, 0), counted(9, 1)
    losses = [SoftTargets(), LogitsMSE(), HardLabels()]
    made = Distiller(student, losses, teacher=teacher if live else None, loss_weights=(1.0, 1.0, 1.0))
    made.compile("sgd", CE(from_logits=True), metrics=["accuracy"])
    targets = np.zeros((ROWS, CLASSES), "float32")
    made.fit(X if live else packed(targets), Y, batch_size=16, epochs=2, verbose=0)
    assert int(student_calls.count) == 6
    assert int(teacher_calls.count) == (6 if live else 0)
    made.evaluate(X, Y, batch_size=16, verbose=0)
    assert int(student_calls.count) == 9
    assert int(teacher_calls.count) == (6 if live else 0)


@pytest.mark.parametrize("live", [True, False])
def test_a_step_is_the_formula(live: bool) -> None:
    student, teacher = mlp(), mlp(9, seed=1)
    z_t, z_s = teacher.predict(X, verbose=0), student.predict(X, verbose=0)
    losses = [SoftTargets(3.0), LogitsMSE()]
    made = Distiller(student, losses, teacher=teacher if live else None, label_weight=0.3, loss_weights=(0.6, 2.0))
    made.compile(keras.optimizers.SGD(0.1), CE(from_logits=True), metrics=["accuracy"])
    before = weights_of(student)
    logs = made.fit(X if live else packed(z_t), Y, batch_size=ROWS, epochs=1, verbose=0).history
    terms = {"label_loss": ce(z_s).mean(), "soft_targets_loss": kd(z_t, z_s, 3.0).mean(), "logits_mse_loss": np.square(z_t - z_s).mean()}
    for name, expected in terms.items():
        assert logs[name][0] == pytest.approx(expected, rel=1e-5)
    assert logs["loss"][0] == pytest.approx(
        0.3 * terms["label_loss"] + 0.6 * terms["soft_targets_loss"] + 2 * terms["logits_mse_loss"], rel=1e-5
    )
    assert logs["accuracy"][0] == pytest.approx((z_s.argmax(-1) == Y).mean())
    slope = 0.3 * (softmax(z_s) - np.eye(CLASSES)[Y]) + 0.6 * 3 * (softmax(z_s / 3) - softmax(z_t / 3)) + 2 * 2 * (z_s - z_t) / CLASSES
    np.testing.assert_allclose(student.get_weights()[-1], before[-1] - 0.1 * slope.mean(0), rtol=1e-4, atol=1e-6)


def test_live_and_cached_train_alike() -> None:
    teacher, results = mlp(9, seed=1), []
    z_t = np.concatenate([np.asarray(teacher(X[i : i + 16], training=False)) for i in range(0, ROWS, 16)])
    for live in (True, False):
        student = mlp(seed=3)
        made = Distiller(student, [SoftTargets()], teacher=teacher if live else None)
        made.compile("adam", CE(from_logits=True))
        made.fit(X if live else packed(z_t), Y, batch_size=16, epochs=3, shuffle=False, verbose=0)
        results.append(weights_of(student))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_regularisers_of_the_student_count_once_and_those_of_the_teacher_not() -> None:
    l2 = keras.regularizers.L2(0.1)
    student, teacher = mlp(kernel_regularizer=l2, activity_regularizer=l2), mlp(9, seed=1, kernel_regularizer=l2, activity_regularizer=l2)
    z_t, z_s = teacher.predict(X, verbose=0), student.predict(X, verbose=0)
    hidden = np.maximum(X @ student.get_weights()[0] + student.get_weights()[1], 0)
    own = 0.1 * np.square(student.get_weights()[0]).sum() + 0.1 * np.square(hidden).sum() / ROWS
    made = distiller(student, teacher=teacher)
    made.compile(keras.optimizers.SGD(0.0), CE(from_logits=True))
    logs = made.fit(X, Y, batch_size=ROWS, validation_data=(X, Y), validation_batch_size=ROWS, verbose=0).history
    assert logs["loss"][0] == pytest.approx(0.5 * ce(z_s).mean() + 0.5 * kd(z_t, z_s, 3.0).mean() + own, rel=1e-5)
    assert logs["val_loss"][0] == pytest.approx(ce(z_s).mean() + own, rel=1e-5)
    assert len(teacher.losses) == 1 and float(teacher.losses[0]) > 0  # no tensor of the step's graph is left in it
    assert len(made.trainable_weights) == len(student.trainable_weights)
    assert not any(weight is other for weight in made.weights for other in teacher.weights)


def test_sample_weight_and_class_weight() -> None:
    teacher, weights = mlp(9, seed=1), np.random.default_rng(2).uniform(0, 3, ROWS).astype("float32")
    class_weight = {0: 0.5, 1: 2.0, 2: 1.0, 3: 0.0}
    z_t, z_s = teacher.predict(X, verbose=0), mlp().predict(X, verbose=0)
    each = 0.5 * ce(z_s) + 0.5 * kd(z_t, z_s, 3.0)
    given = [({"sample_weight": weights}, weights), ({"class_weight": class_weight}, np.array([class_weight[int(y)] for y in Y]))]
    for arguments, expected in given:
        made = distiller(mlp(), teacher=teacher)
        made.compile(keras.optimizers.SGD(0.0), CE(from_logits=True))
        assert made.fit(X, Y, batch_size=ROWS, verbose=0, **arguments).history["loss"][0] == pytest.approx(
            (each * expected).mean(), rel=1e-5
        )


def heads_of(kind: str) -> tuple[int, str | None, Any, np.ndarray]:
    labels = np.random.default_rng(5)
    return {
        "softmax": (CLASSES, "softmax", CE(), Y),
        "logits": (CLASSES, None, CE(from_logits=True), Y),
        "sigmoid": (1, "sigmoid", keras.losses.BinaryCrossentropy(), (Y > 1).astype("float32")[:, None]),
        "binary logits": (1, None, keras.losses.BinaryCrossentropy(from_logits=True), (Y > 1).astype("float32")[:, None]),
        "multilabel": (3, "sigmoid", keras.losses.BinaryCrossentropy(), labels.integers(0, 2, (ROWS, 3)).astype("float32")),
        "multilabel logits": (
            3,
            None,
            keras.losses.BinaryCrossentropy(from_logits=True),
            labels.integers(0, 2, (ROWS, 3)).astype("float32"),
        ),
    }[kind]


@pytest.mark.parametrize("kind", ["softmax", "logits", "sigmoid", "binary logits", "multilabel", "multilabel logits"])
def test_heads(kind: str) -> None:
    columns, activation, loss, y = heads_of(kind)
    head = {"multilabel": "sigmoid", "binary logits": "logits", "multilabel logits": "sigmoid_logits"}.get(kind, kind)

    def model(units: int, seed: int) -> tuple[keras.Model, keras.Model]:
        """A model with logits of size about 10, and the same without its activation."""
        keras.utils.set_random_seed(seed)
        layers = [
            keras.Input((COLUMNS,)),
            keras.layers.Dense(units, "relu"),
            keras.layers.Dense(columns, kernel_initializer="random_normal"),
        ]
        linear = keras.Sequential(layers)
        layers[-1].set_weights([100 * weight for weight in layers[-1].get_weights()])
        return keras.Sequential([*layers, keras.layers.Activation(activation)] if activation else layers), linear

    (student, student_linear), (teacher, teacher_linear) = model(5, 0), model(9, 1)
    z_t, z_s = teacher_linear.predict(X, verbose=0), student_linear.predict(X, verbose=0)
    if head not in ("softmax", "logits") or columns == 1:
        z_t, z_s = (np.stack([np.zeros_like(z), z], -1) for z in (z_t, z_s))
    made = Distiller(student, [SoftTargets(2.0)], teacher=teacher, student_head=head, teacher_head=head)
    made.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
    weights = np.linspace(0, 2, ROWS, dtype="float32")
    before = student.evaluate(X, y, verbose=0) if student.compiled else None
    logs = made.fit(X, y, batch_size=ROWS, sample_weight=weights, verbose=0).history
    assert before is None
    each = kd(z_t, z_s, 2.0).reshape(ROWS, -1).mean(-1)
    assert logs["soft_targets_loss"][0] == pytest.approx((each * weights).mean(), rel=1e-5)
    student.compile("sgd", loss, metrics=["accuracy"])
    plain = student.evaluate(X, y, batch_size=ROWS, sample_weight=weights, verbose=0, return_dict=True)
    assert logs["label_loss"][0] == pytest.approx(plain["loss"], rel=1e-6)
    assert logs["accuracy"][0] == pytest.approx(plain["accuracy"])


def test_a_softmax_teacher_and_a_linear_student() -> None:
    linear = mlp(9, seed=1)
    teacher = keras.Sequential([*linear.layers, keras.layers.Softmax()])
    results = []
    for one, head in ((linear, "logits"), (teacher, "softmax")):
        student = mlp()
        made = Distiller(student, [SoftTargets()], teacher=one, teacher_head=head)
        made.compile("sgd", CE(from_logits=True))
        made.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
        results.append(weights_of(student))
    assert same(*results)


def test_regression() -> None:
    student, teacher = (keras.Sequential([keras.Input((COLUMNS,)), keras.layers.Dense(2)]) for _ in range(2))
    y = X[:, :2] * 3
    made = Distiller(student, [LogitsMSE()], teacher=teacher, student_head="regression", teacher_head="regression")
    made.compile(keras.optimizers.SGD(0.0), "mse")
    z_t, z_s = teacher.predict(X, verbose=0), student.predict(X, verbose=0)
    logs = made.fit(X, y, batch_size=ROWS, verbose=0).history
    assert logs["loss"][0] == pytest.approx(0.5 * np.square(z_s - y).mean() + 0.5 * np.square(z_s - z_t).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="SoftTargets needs a head of logits or softmax or sigmoid. Received: head='regression'"):
        Distiller(student, [SoftTargets()], teacher=teacher, student_head="regression")


def several(form: str, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((COLUMNS,))
    hidden = keras.layers.Dense(5 + seed, "relu")(inputs)
    digit, value = keras.layers.Dense(CLASSES, name="digit")(hidden), keras.layers.Dense(1, name="value")(hidden)
    return keras.Model(inputs, {"digit": digit, "value": value} if form == "dict" else [digit, value])


@pytest.mark.parametrize("form", ["dict", "list"])
@pytest.mark.parametrize("live", [True, False])
def test_several_outputs(form: str, live: bool) -> None:
    student, teacher = several(form), several(form, 1)
    labels = {"digit": Y, "value": X[:, :1]}
    losses = {"digit": CE(from_logits=True), "value": "mse"}
    heads = {"digit": "logits", "value": "regression"} if form == "dict" else ["logits", "regression"]
    weights = {"digit": np.linspace(0, 1, ROWS, dtype="float32"), "value": np.ones(ROWS, "float32")}
    if form == "list":
        labels, losses, weights = (list(part.values()) for part in (labels, losses, weights))  # type: ignore[assignment]
    targets, outputs = teacher.predict(X, verbose=0), student.predict(X, verbose=0)
    z_t, z_s = ((out["digit"], out["value"]) if form == "dict" else tuple(out) for out in (targets, outputs))
    kinds = [SoftTargets(3.0, output="digit" if form == "dict" else 0), LogitsMSE(output="value" if form == "dict" else 1), LogitsMSE()]
    settings = {"loss_weights": (1.0, 1.0, 0.0), "label_weight": 0.0, "student_head": heads, "teacher_head": heads}
    made = Distiller(student, kinds, teacher=teacher if live else None, **settings)
    made.compile(keras.optimizers.SGD(0.0), losses)
    logs = made.fit(X if live else packed(targets), labels, batch_size=ROWS, sample_weight=weights, verbose=0).history
    soft, mse = (kd(z_t[0], z_s[0], 3.0) * np.linspace(0, 1, ROWS)).mean(), np.square(z_t[1] - z_s[1]).mean()
    assert logs["soft_targets_loss"][0] == pytest.approx(soft, rel=1e-5)
    assert logs["logits_mse_loss"][0] == pytest.approx(mse, rel=1e-5)
    assert logs["loss"][0] == pytest.approx(soft + mse, rel=1e-5)
    both = (np.square(z_t[0] - z_s[0]).mean(-1) * np.linspace(0, 1, ROWS)).mean() + mse
    assert logs["logits_mse_1_loss"][0] == pytest.approx(both, rel=1e-5)
    with pytest.raises(ValueError, match="needs a head of"):
        Distiller(student, [SoftTargets()], teacher=teacher, student_head=heads, teacher_head=heads)


def test_masks_of_sequences() -> None:
    def tagger(units: int) -> keras.Model:
        layers = [keras.Input((7,)), keras.layers.Embedding(11, units, mask_zero=True), keras.layers.GRU(units, return_sequences=True)]
        return keras.Sequential([*layers, keras.layers.Dense(CLASSES, kernel_initializer=keras.initializers.RandomNormal(stddev=10.0))])

    student, teacher = tagger(4), tagger(6)
    words, lengths = np.random.default_rng(0).integers(1, 11, (ROWS, 7)), np.random.default_rng(1).integers(1, 8, ROWS)
    kept = np.arange(7) < lengths[:, None]
    words = (words * kept).astype("int32")
    tags = np.random.default_rng(2).integers(0, CLASSES, (ROWS, 7))
    z_t, z_s = teacher.predict(words, verbose=0), student.predict(words, verbose=0)
    for x, live in ((words, teacher), (packed(z_t, words), None)):
        made = Distiller(student, [SoftTargets(3.0)], teacher=live)
        made.compile(keras.optimizers.SGD(0.0), CE(from_logits=True))
        logs = made.fit(x, tags, batch_size=ROWS, verbose=0).history
        assert logs["soft_targets_loss"][0] == pytest.approx(kd(z_t[kept], z_s[kept], 3.0).mean(), rel=1e-4)
        assert logs["label_loss"][0] == pytest.approx(ce(z_s[kept], tags[kept]).mean(), rel=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_student_of_a_float32_teacher(policy: str) -> None:
    teacher = mlp(9, seed=1)
    keras.config.set_dtype_policy(policy)
    try:
        student = mlp()
    finally:
        keras.config.set_dtype_policy("float32")
    made = distiller(student, teacher=teacher)
    made.compile(keras.optimizers.Adam(1e-2), CE(from_logits=True))
    assert isinstance(made.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    logs = made.fit(X, Y, batch_size=16, epochs=8, verbose=0).history
    assert np.isfinite(logs["loss"]).all() and logs["loss"][-1] < logs["loss"][0]
    assert made(X[:2]).dtype == policy.removeprefix("mixed_")


def test_xla_gives_the_same() -> None:
    results = []
    for jit in (False, True):
        student = mlp(activation="softmax")
        made = distiller(student, [SoftTargets(), HardLabels()], loss_weights=(0.5, 0.5), student_head="softmax")
        made.compile("sgd", CE(), metrics=["accuracy"], jit_compile=jit)
        assert made.jit_compile is jit
        made.fit(X, Y, batch_size=16, epochs=2, shuffle=False, validation_data=(X, Y), verbose=0)
        results.append(weights_of(student))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def noisy(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((COLUMNS,)), keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    return keras.Sequential([*layers, keras.layers.Dense(CLASSES)])


def test_evaluate_changes_nothing() -> None:
    student = noisy(0)
    made = distiller(student, teacher=noisy(1))
    made.compile("sgd", CE(from_logits=True), metrics=["accuracy"])
    made.fit(X, Y, batch_size=16, verbose=0)
    before = weights_of(student), values(student.variables)
    logs = made.evaluate(X, Y, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "accuracy"}
    student.compile("sgd", CE(from_logits=True))
    assert logs["loss"] == pytest.approx(student.evaluate(X, Y, verbose=0), rel=1e-6)
    assert same(before[0], weights_of(student)) and same(before[1], values(student.variables))


def test_the_teacher_comes_back_untouched() -> None:
    teacher = noisy(1)
    teacher.compile("adam", CE(from_logits=True))
    teacher.fit(X, Y, epochs=1, verbose=0)
    teacher.layers[0].trainable = False
    state = weights_of(teacher), [layer.trainable for layer in teacher.layers], teacher.optimizer, teacher.loss
    seeds = values(teacher.variables)
    optimizer = values(teacher.optimizer.variables)
    made = distiller(mlp(), teacher=teacher)
    made.compile("sgd", CE(from_logits=True))
    made.fit(X, Y, batch_size=16, epochs=2, validation_data=(X, Y), verbose=0)
    assert same(state[0], weights_of(teacher)) and same(seeds, values(teacher.variables))
    assert state[1] == [layer.trainable for layer in teacher.layers]
    assert teacher.optimizer is state[2] and teacher.loss is state[3] and teacher.compiled
    assert same(optimizer, values(teacher.optimizer.variables))
    assert teacher.losses == []


def test_logs_of_training_and_validation() -> None:
    made = distiller(mlp(), [SoftTargets(1.0), SoftTargets(9.0), keras.distillation.LogitsDistillation(loss=keras.losses.KLDivergence())],
                     loss_weights=(0.1, 0.1, 0.1))  # fmt: skip
    made.compile("sgd", CE(from_logits=True), metrics=["accuracy"])
    logs = made.fit(X, Y, batch_size=16, epochs=2, validation_data=(X, Y), verbose=0).history
    terms = {"label_loss", "soft_targets_loss", "soft_targets_1_loss", "logits_distillation_loss"}
    assert set(logs) == {"loss", "accuracy", "val_loss", "val_accuracy", *terms}
    total = 0.5 * np.array(logs["label_loss"]) + sum(0.1 * np.array(logs[name]) for name in terms - {"label_loss"})
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)


def test_a_schedule_changes_weights_and_temperature_without_a_new_trace() -> None:
    student, teacher = mlp(), mlp(9, seed=1)
    z_t, z_s = teacher.predict(X, verbose=0), student.predict(X, verbose=0)
    given, traces = SoftTargets(3.0), []

    class Traced(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            traces.append(1)
            return inputs

    made = distiller(keras.Sequential([keras.Input((COLUMNS,)), Traced(), *student.layers]), [given], teacher=teacher)
    made.compile(keras.optimizers.SGD(0.0), CE(from_logits=True))
    assert set(made.knobs) == {"label_weight", "loss_weights__0", "losses__0__temperature"}
    made.fit(X, Y, batch_size=ROWS, verbose=0)
    before = len(traces)
    made.knobs["label_weight"].assign(0.25)
    made.knobs["loss_weights__0"].assign(4.0)
    made.knobs["losses__0__temperature"].assign(8.0)
    logs = made.fit(X, Y, batch_size=ROWS, verbose=0).history
    assert logs["loss"][0] == pytest.approx(0.25 * ce(z_s).mean() + 4 * kd(z_t, z_s, 8.0).mean(), rel=1e-5)
    assert len(traces) == before and given.temperature == 3.0


def test_subclassed_student_and_teacher() -> None:
    class Net(keras.Model):
        def __init__(self, units: int) -> None:
            super().__init__()
            self.hidden, self.last = keras.layers.Dense(units, "relu"), keras.layers.Dense(CLASSES, "softmax")

        def call(self, inputs: Any) -> Any:  # no `training` argument
            return self.last(self.hidden(inputs))

    student, teacher = Net(5), Net(9)
    student(X[:1]), teacher(X[:1])
    made = Distiller(student, [SoftTargets()], teacher=teacher, student_head="softmax", teacher_head="softmax")
    made.compile("adam", CE())
    logs = made.fit(X, Y, batch_size=16, epochs=5, verbose=0).history
    assert logs["loss"][-1] < logs["loss"][0]


REPLICAS = """
import contextlib, json, sys
import keras, numpy as np, tensorflow as tf
from kdfuse.distill.distiller import Distiller
from kdfuse.distill.lessons import INPUTS, LESSONS
from kdfuse.distill.losses.soft_targets import SoftTargets

tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
x, y = np.random.default_rng(0).standard_normal((64, 6)).astype("float32"), np.arange(64) % 4

def net(units, seed, *norm):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(units, "relu"), *norm, keras.layers.Dense(4, "softmax")])

teacher = net(9, 1, keras.layers.BatchNormalization())
targets = np.log(teacher.predict(x, verbose=0))

def fit(scope, live):
    with scope:
        student = net(5, 0)
        made = Distiller(student, [SoftTargets(3.0)], teacher=teacher if live else None, student_head="softmax", teacher_head="softmax")
        made.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    rows = tf.data.Dataset.from_tensor_slices((x if live else {INPUTS: x, LESSONS: ({"logits": targets},)}, y)).batch(16)
    logs = made.fit(rows, epochs=2, validation_data=(x, y), verbose=0).history
    return logs, [weight.ravel().tolist() for weight in student.get_weights()]

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
print(json.dumps([[fit(strategy.scope(), live), fit(contextlib.nullcontext(), live)] for live in (True, False)]))
"""


@pytest.mark.slow
def test_two_replicas_are_as_one() -> None:
    done = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    for (logs, weights), (alone, weights_alone) in json.loads(done.stdout.splitlines()[-1]):
        assert set(logs) == set(alone)
        for name, expected in alone.items():
            assert logs[name] == pytest.approx(expected, rel=1e-5)
        for a, b in zip(weights, weights_alone, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_distilled_is_refused() -> None:
    made = distiller(mlp())
    made.compile("sgd", CE(from_logits=True))
    with pytest.raises(ValueError, match="Distilling needs labels"):
        made.fit(X, None, verbose=0)
    without = Distiller(mlp(), [SoftTargets()])
    without.compile("sgd", CE(from_logits=True))
    with pytest.raises(ValueError, match="without a `teacher`, expected the batches of a TaughtSplit"):
        without.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match=r"`loss_weights`: expected one for each loss, 1"):
        Distiller(mlp(), [SoftTargets()], loss_weights=(1.0, 2.0))
