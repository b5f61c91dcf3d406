"""The Cohort: one step by hand, what it runs, its logs and its file."""

import keras
import numpy as np
import pytest

from kdfuse.distill.cohort import Cohort
from kdfuse.distill.losses.logits_mse import LogitsMSE
from kdfuse.distill.losses.soft_targets import SoftTargets

ROWS, COLUMNS, CLASSES = 48, 6, 4
X = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype("float32")
Y = np.random.default_rng(1).integers(0, CLASSES, ROWS)
W = np.random.default_rng(2).uniform(0, 3, ROWS).astype("float32")


class Counted(keras.layers.Layer):
    """Counts the forward passes that a compiled step really runs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int32", name="count")

    def call(self, inputs):
        self.count.assign_add(1)
        return inputs


def linear(seed, activation=None, **dense):
    """One layer, so that its gradient can be written down."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((COLUMNS,)), Counted(), keras.layers.Dense(CLASSES, activation, **dense)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None), metrics=["accuracy"])
    return model


def cohort(students, losses, rate=0.1, **extra):
    heads = ["softmax" if student.layers[-1].activation is keras.activations.softmax else "logits" for student in students]
    made = Cohort(students, losses, heads=heads, **extra).prepare((X[:2], Y[:2]))
    made.compile(keras.optimizers.SGD(rate), loss="mse")
    return made


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(student):
    kernel, bias = (np.asarray(weight, "float64") for weight in student.trainable_weights)
    return X.astype("float64") @ kernel + bias


def kl(p, q):
    return (p * (np.log(p) - np.log(q))).sum(-1)


@pytest.mark.parametrize(("count", "weighted"), [(2, False), (3, True)])
def test_a_step_is_the_papers_formula(count, weighted):
    students = [linear(0), linear(1, "softmax"), linear(2)][:count]
    share = W if weighted else np.ones(ROWS)
    z = [logits(student) for student in students]
    p = [softmax(one) for one in z]
    T, alpha, beta = 2.0, 0.7, 1.5
    q = [softmax(one / T) for one in z]
    losses, kernels, biases = [], [], []
    for i, student in enumerate(students):
        others = [j for j in range(count) if j != i]
        ce = -np.log(p[i][np.arange(ROWS), Y])
        peers = np.mean([T**2 * kl(q[j], q[i]) for j in others], axis=0)
        losses.append((share * ce).mean() * alpha + (share * peers).mean() * beta)
        slope = alpha * (p[i] - np.eye(CLASSES)[Y]) + beta * np.mean([T * (q[i] - q[j]) for j in others], axis=0)
        slope = share[:, None] * slope / ROWS
        kernels.append(np.asarray(student.trainable_weights[0]) - 0.1 * X.T @ slope)
        biases.append(np.asarray(student.trainable_weights[1]) - 0.1 * slope.sum(0))
    made = cohort(students, [SoftTargets(T)], label_weight=alpha, loss_weights=(beta,))
    logs = made.fit(X, Y, batch_size=ROWS, epochs=1, verbose=0, sample_weight=W if weighted else None).history
    assert logs["loss"][0] == pytest.approx(sum(losses), rel=1e-5)
    for student, kernel, bias in zip(students, kernels, biases, strict=True):
        np.testing.assert_allclose(student.trainable_weights[0], kernel, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(student.trainable_weights[1], bias, rtol=1e-4, atol=1e-6)
        assert int(student.layers[0].count) == 1
    accuracy = [(one.argmax(-1) == Y).mean() for one in p]
    assert logs["student_1/label_loss"][0] == pytest.approx((share * -np.log(p[0][np.arange(ROWS), Y])).mean(), rel=1e-5)
    assert logs["student_2/accuracy"][0] == pytest.approx(accuracy[1]) and logs["accuracy"][0] == pytest.approx(np.mean(accuracy))


def test_validation_knows_labels_and_regularisers_alone():
    l2 = keras.regularizers.L2(0.1)
    students = [linear(0, kernel_regularizer=l2), linear(1)]
    made = cohort(students, [SoftTargets(1.0), LogitsMSE()], rate=0.0, loss_weights=(1.0, 2.0))
    logs = made.fit(X, Y, batch_size=16, epochs=2, validation_data=(X, Y), verbose=0).history
    ce = [-np.log(softmax(logits(student))[np.arange(ROWS), Y]).mean() for student in students]
    assert logs["val_loss"][1] == pytest.approx(sum(ce) + 0.1 * np.square(students[0].trainable_weights[0]).sum(), rel=1e-5)
    assert {"val_accuracy", "val_student_1/accuracy", "val_student_2/accuracy"} <= set(logs)
    assert {"student_1/soft_targets_loss", "student_2/logits_mse_loss", "logits_mse_loss"} <= set(logs)
    assert not [name for name in logs if name.startswith("val_") and "soft_targets" in name]
    assert logs["student_1/accuracy"][0] == logs["student_1/accuracy"][1], "metrics begin anew each epoch"
    accuracy = (logits(students[1]).argmax(-1) == Y).mean()
    assert logs["val_student_2/accuracy"] == pytest.approx([accuracy] * 2)
    assert made.evaluate(X, Y, verbose=0, return_dict=True)["student_2/accuracy"] == pytest.approx(accuracy)


def test_several_outputs_go_by_name_and_by_place():
    def model(seed, named):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((COLUMNS,))
        outputs = {"a": keras.layers.Dense(CLASSES, name="a")(inputs), "b": keras.layers.Dense(3, "softmax", name="b")(inputs)}
        made = keras.Model(inputs, outputs if named else [outputs["a"], outputs["b"]])
        cross = [keras.losses.SparseCategoricalCrossentropy(from_logits=logits) for logits in (True, False)]
        made.compile("sgd", dict(zip("ab", cross, strict=True)) if named else cross)
        return made

    for named in (True, False):
        students = [model(0, named), model(1, named)]
        y = {"a": Y, "b": Y % 3} if named else [Y, Y % 3]
        heads = {"a": "logits", "b": "softmax"} if named else ["logits", "softmax"]
        made = Cohort(students, [SoftTargets(1.0)], heads=[heads] * 2, loss_weights=(1.0,)).prepare(
            (X[:2], keras.tree.map_structure(lambda v: v[:2], y))
        )
        made.compile(keras.optimizers.SGD(0.0), loss="mse")
        outputs = [keras.tree.flatten(student(X)) for student in students]
        p = [[softmax(np.asarray(a, "float64")), np.asarray(b, "float64")] for a, b in outputs]
        expected = sum(kl(p[1][k], p[0][k]).mean() + kl(p[0][k], p[1][k]).mean() for k in range(2))
        expected += sum(-np.log(one[k][np.arange(ROWS), (Y, Y % 3)[k]]).mean() for one in p for k in range(2))
        assert made.fit(X, y, batch_size=ROWS, verbose=0).history["loss"][0] == pytest.approx(expected, rel=1e-4)


def test_its_file_rescues_the_students(tmp_path):
    students = [keras.Sequential([keras.Input((COLUMNS,)), keras.layers.Dense(units), keras.layers.Dense(CLASSES)]) for units in (3, 5)]
    for student in students:
        student.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    made = Cohort(students, [SoftTargets()], heads=["logits"] * 2, loss_weights=(1.0,)).prepare((X[:2], Y[:2]))
    made.save(tmp_path / "cohort.keras", include_optimizer=False)
    back = keras.saving.load_model(tmp_path / "cohort.keras", compile=False)
    for old, new in zip(students, back.students, strict=True):
        np.testing.assert_array_equal(old(X), new(X))
