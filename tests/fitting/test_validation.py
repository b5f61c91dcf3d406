import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.fitting.validation import Validation, why_not_at_once
from kdfuse.train import Train

layers = keras.layers


@pytest.fixture(scope="module")
def digits():
    return kf.datasets.load("digits", labels=128)


def weighted(digits):
    draws, (x, y, _) = np.random.default_rng(0), digits.train.head(128)
    held = digits.validation.head(70)
    return kf.Data((x, y, draws.uniform(0, 2, 128)), (held[0], held[1], draws.uniform(0, 2, 70)))


def masked(digits):
    draws = np.random.default_rng(0)
    words = draws.integers(0, 9, (60, 7))
    data = kf.Data((words, words % 3), (words[:33], words[:33] % 3), task="classification")
    inputs = keras.Input((7,), dtype="int32")
    x = layers.LSTM(6, return_sequences=True)(layers.Embedding(9, 4, mask_zero=True)(inputs))
    return keras.Model(inputs, layers.Dense(3)(x)), data


def several(digits):
    x, y, _ = digits.train.head(100)
    labels = {"class": y, "odd": (y % 2).astype("float32")}
    held = ({"x": x[:41]}, {name: value[:41] for name, value in labels.items()})
    data = kf.Data(({"x": x}, labels), held, task={"class": "classification", "odd": "binary"})
    return kf.models.mlp(data, units=(8,)), data


CASES = {
    "plain": lambda digits: (kf.models.convnet(digits, filters=4, layers=1), digits),
    "weights and batch norm": lambda digits: (kf.models.mlp(weighted(digits), units=(8,), batch_norm=True), weighted(digits)),
    "masks": masked,
    "several outputs": several,
}


@pytest.mark.parametrize("name", CASES)
def test_curves_are_those_of_keras(name, digits):
    model, data = CASES[name](digits)
    training = Train(epochs=2, l2=0.01, learning_rate=0.01)
    theirs, mine = training.private(model, data), training.private(model, data)
    assert why_not_at_once(mine, data.validation) is None
    expected = training.fit(theirs, data).history
    validation = Validation(data.validation, None)
    found = training.fit(mine, data, validation=validation).history
    assert set(found) == set(expected) and any(curve.startswith("validation/") for curve in found)
    for curve, values in expected.items():
        np.testing.assert_allclose(found[curve], values, rtol=1e-4, atol=1e-6, err_msg=curve)
    outputs = keras.tree.map_structure(np.asarray, mine(data.validation.x, training=False))
    for kept, output in zip(keras.tree.flatten(validation.of(found).outputs), keras.tree.flatten(outputs), strict=True):
        np.testing.assert_allclose(kept, output, atol=1e-5)


@pytest.mark.parametrize("restore", [True, False])
def test_outputs_are_those_of_the_weights_that_stay(restore, digits):
    stopping = kf.Stopping("validation/loss", patience=2, restore_best=restore)
    training = Train(epochs=20, learning_rate=0.1, stopping=stopping)
    model = training.private(kf.models.mlp(digits, units=(16,)), digits)
    validation = Validation(digits.validation, stopping)
    history = training.fit(model, digits, validation=validation).history
    assert len(history["train/loss"]) < 20 and set(validation.passes) == {len(history["train/loss"]) - 3, len(history["train/loss"]) - 1}
    np.testing.assert_allclose(validation.of(history).outputs, np.asarray(model(digits.validation.x, training=False)), atol=1e-5)


def test_outputs_of_an_epoch_it_has_not_seen_are_not_known(digits):
    stopping = kf.Stopping("validation/loss", patience=9)
    validation = Validation(digits.validation, stopping)
    validation.passes = {2: "a pass"}
    assert validation.of({"train/loss": [3, 2, 1], "validation/loss": [1.0, 2.0, 3.0]}) is None
    assert validation.of({"train/loss": [3, 2, 1], "validation/loss": [3.0, 2.0, 1.0]}) == "a pass"


def test_what_keras_must_validate_says_why(digits):
    split = digits.validation
    regular = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10, activity_regularizer="l2")])

    class Adds(layers.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.mean(inputs))
            return inputs

    inputs = keras.Input((8, 8, 1))
    adds = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(Adds()(inputs))))

    class Own(keras.Model):
        def test_step(self, data):
            return {}

    own = Own(inputs, layers.Dense(10)(layers.Flatten()(inputs)))
    assert "adds to the loss" in why_not_at_once(regular, split) and "not Keras's own" in why_not_at_once(adds, split)
    assert "no graph" in why_not_at_once(own, split)
    stream = kf.Data(digits.train.dataset(32), digits.validation.dataset(32), task="classification")
    assert "no arrays" in why_not_at_once(kf.models.mlp(digits), stream.validation)
