"""What all members give, in one pass."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.ensemble.calibrate import Calibrate
from kdfuse.ensemble.members import take
from kdfuse.ensemble.mixed.stack import Stack
from kdfuse.ensemble.predictions import predictions
from kdfuse.ensemble.serial.cascade import Cascade

L = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(41, 6)).astype("float32"), RNG.integers(0, 3, 41)


def net(seed, activation=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((6,)), L.Dense(3, activation)])


def test_probabilities_logits_targets_and_weights_in_the_order_of_the_rows():
    weights = RNG.random(41).astype("float32")
    data = Data(train=(X, Y, weights))
    models = [net(0), net(1, "softmax")]
    members = take(models, data)
    (found,) = predictions(members, data, data.train)
    want = [np.asarray(keras.ops.softmax(models[0](X))), np.asarray(models[1](X))]
    np.testing.assert_allclose(found.values, want, rtol=1e-5)
    np.testing.assert_array_equal(found.targets, Y)
    np.testing.assert_allclose(found.weights, weights)
    assert (found.label, found.head, found.task) == ("", "softmax", "classification")
    (logits,) = predictions(members, data, data.train, "logits")
    np.testing.assert_allclose(logits.values[0], models[0](X), rtol=1e-5)
    np.testing.assert_allclose(logits.values[1], np.log(want[1]), rtol=1e-4)
    (raw,) = predictions(members, data, data.train, None)
    np.testing.assert_allclose(raw.values[0], models[0](X), rtol=1e-5)


@pytest.mark.parametrize("technique", [Calibrate(), Cascade(), Stack(folds=None)])
def test_one_column_is_judged_by_labels_of_two_as_by_those_of_one(technique):
    models = [keras.Sequential([keras.Input((6,)), L.Dense(1, "sigmoid")]) for _ in "ab"]
    given, yes, found = models if technique.takes_models else models[0], (Y > 0).astype("int32"), []
    for labels in (np.eye(2)[yes], yes[:, None]):
        data = Data(train=(X, labels), validation=(X, labels))
        technique.check(given, data)
        found.append(technique.apply(given, data).model(X))
    np.testing.assert_allclose(*found, atol=1e-5)


def test_a_stream_is_read_once():
    rows = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(41, seed=1, reshuffle_each_iteration=True).batch(8)
    data = Data(train=rows)
    members = take([net(0), net(1)], data)
    (found,) = predictions(members, data, data.train)
    assert found.values.shape == (2, 41, 3) and sorted(found.targets) == sorted(Y)
    table = {tuple(np.asarray(keras.ops.softmax(net(0)(row[None])))[0].round(4)): label for row, label in zip(X, Y, strict=True)}
    assert all(table[tuple(chances.round(4))] == label for chances, label in zip(found.values[0], found.targets, strict=True))


def test_each_output_is_an_entry():
    given = keras.Input((6,))
    model = keras.Model(given, {"a": L.Dense(3, name="a")(given), "b": L.Dense(1, name="b")(given)})
    data = Data(train=(X, {"a": Y, "b": X[:, :1]}))
    found = predictions(take([model, model], data), data, data.train)
    assert [(one.label, one.head, one.values.shape) for one in found] == [("a", "softmax", (2, 41, 3)), ("b", "regression", (2, 41, 1))]
