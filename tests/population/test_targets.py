import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.population.targets import Target, why_no_target

losses = keras.losses
DRAWS = np.random.default_rng(0)
LOGITS = DRAWS.normal(size=(6, 3)).astype("float32") * 3
CLASSES = np.array([0, 2, 1, 1, 0, 2])
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
CASES = {
    "sparse": (losses.SparseCategoricalCrossentropy(from_logits=True), "linear", CLASSES),
    "sparse, a column, softmax": (losses.SparseCategoricalCrossentropy(), "softmax", CLASSES[:, None]),
    "one-hot": (losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), "linear", ONE_HOT),
    "soft": (losses.CategoricalCrossentropy(from_logits=True), "linear", ONE_HOT * 0.5 + 0.2),
    "binary": (losses.BinaryCrossentropy(from_logits=True), "linear", ONE_HOT),
    "binary, sigmoid, smoothed": (losses.BinaryCrossentropy(label_smoothing=0.2), "sigmoid", ONE_HOT),
    "squares": (losses.MeanSquaredError(), "linear", ONE_HOT * 2),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_keras(name):
    loss, activation, y = CASES[name]
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        each = tf.reshape(loss.call(y, keras.activations.get(activation)(logits)), (6,))
    assert why_no_target(loss, activation) is None
    rows = np.array([4, 0, 5, 2])
    values, gradient = Target(loss, activation, y, 3).at(rows, LOGITS[rows])
    np.testing.assert_allclose(values, np.asarray(each)[rows], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient, np.asarray(tape.gradient(each, logits))[rows], rtol=1e-4, atol=2e-6)


def test_one_column_may_come_without_its_axis():
    loss = losses.BinaryCrossentropy(from_logits=True)
    values, gradient = Target(loss, "linear", np.array([0, 1]), 1).at(np.arange(2), np.zeros((2, 1), "float32"))
    assert values == pytest.approx([np.log(2)] * 2) and gradient.ravel() == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize(
    ("loss", "activation", "said"),
    [
        (losses.Huber(), "linear", "Huber"),
        (losses.MeanSquaredError(reduction="sum"), "linear", "reduction"),
        (losses.MeanSquaredError(), "sigmoid", "sigmoid"),
        (losses.SparseCategoricalCrossentropy(from_logits=True), "softmax", "softmax"),
        (losses.SparseCategoricalCrossentropy(ignore_class=0), "softmax", "ignore"),
    ],
)
def test_what_has_no_form_says_so(loss, activation, said):
    assert said in why_no_target(loss, activation)
