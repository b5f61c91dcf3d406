"""Predictions side by side: their order, their scale, and back to each member's outputs."""

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.ensemble.members import take
from kdfuse.ensemble.mixed.features import check_flat, check_one_a_row, features_of, parts_in
from kdfuse.measure.predict import one_pass

RNG = np.random.default_rng(0)
L = keras.layers
X = RNG.normal(size=(30, 3, 2)).astype("float32")
Y = {"kind": np.arange(30) % 4, "size": RNG.normal(size=(30, 1)).astype("float32")}
DATA = Data(train=(X, Y))


def net(seed, activation=None):
    keras.utils.set_random_seed(seed)
    given = keras.Input((3, 2))
    x = L.Flatten()(given)
    return keras.Model(given, {"kind": L.Dense(4, activation)(x), "size": L.Dense(1)(x)})


MODELS = [net(0), net(1, "softmax")]


def softmax(z):
    grown = np.exp(z - z.max(1, keepdims=True))
    return grown / grown.sum(1, keepdims=True)


def test_members_one_by_one_each_with_its_outputs_then_the_inputs():
    members = take(MODELS, DATA)
    found = one_pass(features_of(members, DATA, "probabilities", True).model, DATA.train).outputs
    a, b = (one(X) for one in MODELS)
    expected = [softmax(np.array(a["kind"])), a["size"], b["kind"], b["size"], X.reshape(30, 6)]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), atol=1e-5)
    logits = one_pass(features_of(members, DATA, "logits", False).model, DATA.train).outputs
    np.testing.assert_allclose(logits, np.concatenate([a["kind"], a["size"], np.log(b["kind"]), b["size"]], axis=1), atol=1e-4)


@pytest.mark.parametrize("scale", ["probabilities", "logits"])
def test_parts_of_each_member(scale):
    members = take(MODELS, DATA)
    features = one_pass(features_of(members, DATA, scale, True).model, DATA.train).outputs
    first, second = parts_in(features, Y, {"kind": np.ones(30), "size": np.arange(30)}, members, DATA, scale)
    assert [part.label for part in first] == ["kind", "size"]
    assert [part.head for part in second] == ["softmax" if scale == "probabilities" else "logits", "regression"]
    np.testing.assert_array_equal(first[0].targets, Y["kind"])
    np.testing.assert_array_equal(second[1].weights, np.arange(30))
    np.testing.assert_allclose(second[1].values, MODELS[1](X)["size"], atol=1e-5)
    chances = MODELS[1](X)["kind"] if scale == "probabilities" else np.log(MODELS[1](X)["kind"])
    np.testing.assert_allclose(second[0].values, chances, atol=1e-4)


def test_what_is_refused():
    steps = Data(train=(X, np.arange(90).reshape(30, 3) % 2), task="classification", class_names=("a", "b"))
    model = keras.Sequential([keras.Input((3, 2)), L.Dense(2)])
    with pytest.raises(ValueError, match="`model` of Stack: expected outputs of shape .rows, columns., one prediction a row"):
        check_one_a_row("Stack", take([model], steps)[0])
    check_one_a_row("Stack", take(MODELS, DATA)[1])
    with pytest.raises(ValueError, match="`passthrough`: expected inputs that are numbers.*text. Give False"):
        check_flat("passthrough", Data(train=(np.array(["a", "b", "c"]), np.arange(3) % 2)), "Give False.")
    check_flat("passthrough", DATA, "Give False.")
    import tensorflow as tf

    shape = tf.TensorSpec((None, None, 2), "float32"), tf.TensorSpec((None,), "int64")
    stream = tf.data.Dataset.from_generator(lambda: iter([(X[:4], np.arange(4) % 2)]), output_signature=shape)
    with pytest.raises(ValueError, match="`passthrough`.*open sizes"):
        check_flat("passthrough", Data(train=stream, class_names=("a", "b")), "Give False.")
