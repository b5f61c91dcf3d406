"""Exits along the depth: one step against NumPy, what it runs, and its logs."""

import keras
import numpy as np
import pytest

from kdfuse.distill.exits import Exit, ExitDistiller, gridded, pooled

ROWS, COLUMNS, CLASSES = 32, 6, 4
X = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype("float32")
Y = np.random.default_rng(1).integers(0, CLASSES, ROWS)
W = np.random.default_rng(2).uniform(0, 3, ROWS).astype("float32")
T, ALPHA, BETA = 2.0, 0.3, 0.05


class Counted(keras.layers.Layer):
    """Counts the forward passes that a compiled step really runs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int32", name="count")

    def call(self, inputs):
        self.count.assign_add(1)
        return inputs


def net(head="logits", **dense):
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(units, "tanh", name=f"block{place}", **dense) for place, units in enumerate((7, 6, 5))]
    return keras.Sequential(
        [keras.Input((COLUMNS,)), Counted(), *hidden, keras.layers.Dense(CLASSES, "softmax" if head == "softmax" else None, name="head")]
    )


def engine(student, head="logits", exits=("block0", "block1"), rate=0.1, **extra):
    metrics = [keras.metrics.SparseCategoricalAccuracy(name=f"exit_{place}_accuracy") for place in range(len(exits))]
    settings = {"temperature": T, "alpha": ALPHA, "feature_weight": BETA, **extra}
    made = ExitDistiller(student, exits, head=head, example=X[:2], metrics=metrics, **settings)
    made.compile(keras.optimizers.SGD(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=head == "logits"), metrics=["accuracy"])
    return made


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def numpy_loss(weights, share, taught=None):
    """The papers' loss in float64; what the deepest says is constant where it is given."""
    hidden, x = [], X.astype("float64")
    for place in range(3):
        x = np.tanh(x @ weights[2 * place] + weights[2 * place + 1])
        hidden.append(x)
    z = x @ weights[6] + weights[7]
    taught = (z, hidden[2]) if taught is None else taught

    def ce(logits):
        return (share * -np.log(softmax(logits))[np.arange(ROWS), Y]).mean()

    total = ce(z)
    for place in range(2):
        narrow = hidden[place] @ weights[8 + 4 * place] + weights[9 + 4 * place]
        logits = np.maximum(narrow, 0) @ weights[10 + 4 * place] + weights[11 + 4 * place]
        p, q = softmax(taught[0] / T), softmax(logits / T)
        kl = (p * (np.log(p) - np.log(q))).sum(-1)
        gap = np.square(narrow - taught[1]).sum(-1)
        total += (1 - ALPHA) * ce(logits) + ALPHA * T**2 * (share * kl).mean() + BETA * (share * gap).mean()
    return total, taught


@pytest.mark.parametrize(("head", "weighted"), [("logits", True), ("softmax", False)])
def test_a_step_is_the_papers_formula(head, weighted):
    made = engine(net(head), head)
    share = W.astype("float64") if weighted else np.ones(ROWS)
    before = [np.asarray(weight, "float64") for weight in made.trainable_weights]
    assert len(before) == 8 + 2 * 4
    expected, taught = numpy_loss(before, share)
    logs = made.fit(X, Y, batch_size=ROWS, sample_weight=W if weighted else None, verbose=0).history
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-5)
    for place, (old, new) in enumerate(zip(before, made.trainable_weights, strict=True)):
        slope = np.zeros_like(old)
        for spot in np.ndindex(old.shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = [weight.copy() for weight in before]
                moved[place][spot] += step
                values.append(numpy_loss(moved, share, taught)[0])
            slope[spot] = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(new, old - 0.1 * slope, rtol=1e-4, atol=2e-6)


def test_one_forward_a_step_and_validation_as_without_exits():
    l2 = keras.regularizers.L2(0.1)
    student = net(kernel_regularizer=l2)
    made = engine(student, rate=0.0)
    student.layers[0].count.assign(0)
    logs = made.fit(X, Y, batch_size=8, epochs=2, validation_data=(X, Y), verbose=0).history
    assert int(student.layers[0].count) == 2 * (4 + 4)
    z = student.predict(X, verbose=0)
    penalty = 0.1 * sum(np.square(layer.kernel).sum() for layer in student.layers[1:4])
    assert logs["val_loss"][1] == pytest.approx(-np.log(softmax(z)[np.arange(ROWS), Y]).mean() + penalty, rel=1e-5)
    assert {"block0/accuracy", "val_block1/accuracy", "val_accuracy", "soft_targets_loss", "features_loss", "label_loss"} <= set(logs)
    assert not [name for name in logs if "exit_" in name or name in ("val_soft_targets_loss", "val_label_loss")]
    kernels = [np.asarray(weight, "float64") for weight in made.trainable_weights[8:]]
    hidden = np.tanh(X @ student.layers[1].kernel + student.layers[1].bias)
    guess = (np.maximum(hidden @ kernels[0] + kernels[1], 0) @ kernels[2] + kernels[3]).argmax(-1)
    assert logs["val_block0/accuracy"] == pytest.approx([(guess == Y).mean()] * 2)


def test_pooling():
    images = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype("float16")
    found = pooled(keras.ops.convert_to_tensor(images))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, images.astype("float32").mean((1, 2)), rtol=1e-5, atol=1e-6)
    steps = keras.ops.convert_to_tensor(images[:, 0])
    steps._keras_mask = keras.ops.convert_to_tensor(np.array([[True, True, False, False], [False] * 4]))
    np.testing.assert_allclose(pooled(steps)[0], images[0, 0, :2].astype("float32").mean(0), rtol=1e-5)
    np.testing.assert_allclose(pooled(steps)[1], 0)
    flat = keras.ops.convert_to_tensor(images[:, 0, 0])
    np.testing.assert_array_equal(pooled(flat), images[:, 0, 0])


def test_images_are_seen_in_a_grid():
    image = np.arange(2 * 8 * 6 * 3, dtype="float32").reshape(2, 8, 6, 3)
    blocks = image.reshape(2, 4, 2, 3, 2, 3).mean((2, 4))
    np.testing.assert_allclose(gridded(keras.ops.convert_to_tensor(image)), blocks.reshape(2, -1), rtol=1e-6)
    ragged = np.asarray(gridded(keras.ops.convert_to_tensor(image[:, :5]))).reshape(2, 3, 3, 3)
    np.testing.assert_allclose(ragged[:, 2], image[:, 4].reshape(2, 3, 2, 3).mean(2), rtol=1e-6)
    np.testing.assert_allclose(gridded(keras.ops.convert_to_tensor(image[:, 0])), image[:, 0].mean(1), rtol=1e-6)
    made = Exit(5, 3, None, 0, "exit")
    made.build((None, 8, 6, 3))
    assert made.bottleneck.kernel.shape == (4 * 3 * 3, 5) and made(image)[1].shape == (2, 3)


def test_an_exits_weights_are_a_function_of_its_seed():
    def kernel(seed):
        made = Exit(5, 3, None, seed, "exit")
        made.build((None, 4, 4, 6))
        return np.asarray(made.bottleneck.kernel)

    assert kernel(0).shape == (16 * 6, 5) and np.array_equal(kernel(0), kernel(0)) and not np.array_equal(kernel(0), kernel(1))
