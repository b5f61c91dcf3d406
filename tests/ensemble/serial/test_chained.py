"""Chained on real digits."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.ensemble.serial.chained import Chained
from kdfuse.fitting.stopping import Stopping
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.recording import Memory, silence, use
from kdfuse.train import Train

L = keras.layers
DIGITS = load("digits", labels=300)
SHAPE = DIGITS.input_shape
X, Y, _ = DIGITS.train.head(10**6)
FAST = Train(epochs=1, optimizer="sgd", learning_rate=0.1, steps_per_execution=1, checkpoint=0)


def net(seed, units=12, activation=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input(SHAPE), L.Flatten(), L.Dense(units, "relu"), L.Dense(10, activation)], name=f"net_{seed}")


@pytest.fixture(scope="module")
def pair():
    return [net(0), net(1, activation="softmax")]


@pytest.fixture(scope="module")
def halves():
    return [DIGITS.with_splits(train=(X[:140], Y[:140])), DIGITS.with_splits(train=(X[140:], Y[140:]))]


@pytest.fixture(scope="module")
def chained(pair, halves):
    before = [fingerprint(one) for one in pair]
    with silence():  # before the fixture of each test, which would see to it
        found = Chained(FAST)(pair, halves)
    assert [fingerprint(one) for one in pair] == before
    return found


def test_each_is_trained_on_its_own_data_and_hears_the_one_before(chained, pair, halves, tmp_path):
    chain, report = chained
    assert [row["model"] for row in report.rows()] == ["chain", "net_0"]
    assert report.metrics["cost/macs"] == 2 * report.rows()[1]["cost/macs"] + 10 * 10  # and the map of what was said
    assert [one.name for one in report.children] == ["stage 1", "stage 2"]
    alone = FAST.apply(pair[0], halves[0]).model
    first, second = chain.get_layer("before_2"), chain.get_layer("model_2")
    np.testing.assert_allclose(first(X), alone(X), atol=1e-5)
    adding = next(layer for layer in chain.layers if layer.name.startswith("adding"))
    kernel, bias = (np.asarray(weight) for weight in adding.weights)
    assert np.abs(kernel).max() > 0
    said = np.asarray(keras.ops.softmax(first(X)))
    # The last model gives a softmax, and so does the chain.
    np.testing.assert_allclose(chain(X), softmax(np.log(np.asarray(second(X))) + said @ kernel + bias, axis=-1), atol=1e-5)
    assert chain.name == "chained" and all(layer.trainable for layer in chain._flatten_layers())
    chain.save(tmp_path / "m.keras")
    # That a new process knows the layers is the matter of tests/test_registration.py.
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.keras")(X[:40]), chain(X[:40]), atol=1e-5)


@pytest.mark.slow
def test_settings_change_the_first_model(chained, pair):
    found = {"plain": chained[0].get_layer("before_2").get_weights()[0]}
    for name, settings in {"finetuned": {"finetune": True, "pretrained": True}, "pretrained": {"pretrained": True}}.items():
        chain, _ = Chained(FAST, **settings)(pair, DIGITS)
        found[name] = chain.get_layer("before_2").get_weights()[0]
    assert len({array.tobytes() for array in found.values()}) == 3
    np.testing.assert_array_equal(found["pretrained"], pair[0].get_weights()[0])


def test_a_chain_is_trained_with_the_loss_of_its_models(pair):
    own = keras.losses.SparseCategoricalCrossentropy(from_logits=False)
    chain, _ = Chained(Train(epochs=1, checkpoint=0, loss=own, head="softmax"), pretrained=True)([pair[1], pair[1]], DIGITS)
    np.testing.assert_allclose(np.asarray(chain(X)).sum(-1), 1, rtol=1e-5)
    compiled = net(3, activation="softmax")
    compiled.compile("adam", keras.losses.CategoricalFocalCrossentropy())
    hot = DIGITS.with_splits(train=(X, np.eye(10, dtype="float32")[Y]), validation=None, test=None)
    chain, _ = Chained(FAST, pretrained=True)([pair[1], compiled], hot)
    assert isinstance(chain.loss, keras.losses.CategoricalFocalCrossentropy)


def test_stages_may_have_labels_of_their_own(pair):
    keras.utils.set_random_seed(4)
    odd = keras.Sequential([keras.Input(SHAPE), L.Flatten(), L.Dense(1, "sigmoid")])
    coarse = Data(train=(X, (Y % 2)[:, None]), validation=(X[:50], (Y[:50] % 2)[:, None]))
    chain, report = Chained(FAST)([odd, pair[0]], [coarse, DIGITS])
    assert chain.output_shape == (None, 10) and [row["model"] for row in report.rows()] == ["chain"]
    assert "validation/accuracy" in report.children[0].metrics and any("other labels" in note for note in report.notes)
    kernel, bias = (np.asarray(weight) for weight in next(one for one in chain.layers if one.name.startswith("adding")).weights)
    want = np.asarray(chain.get_layer("model_2")(X)) + np.asarray(chain.get_layer("before_2")(X)) @ kernel + bias
    np.testing.assert_allclose(chain(X), want, atol=1e-4)
    with pytest.raises(ValueError, match="`model`: expected 10 units"):
        Chained(FAST)([odd, odd], [coarse, DIGITS])


def test_a_model_with_one_input_more_gets_the_predictions_there():
    keras.utils.set_random_seed(2)
    image, said = keras.Input(SHAPE), keras.Input((10,))
    second = keras.Model([image, said], L.Dense(10)(L.Concatenate()([L.Flatten()(image), said])))
    chain, _ = Chained(FAST, pretrained=True)([net(0), second, net(1)], DIGITS)
    assert chain.input_shape == (None, *SHAPE) and chain.output_shape == (None, 10)
    before = chain.get_layer("before_3")
    first, model = before.get_layer("before_2"), before.get_layer("model_2")
    np.testing.assert_allclose(before(X), model([keras.ops.convert_to_tensor(X), keras.ops.softmax(first(X))]), atol=1e-5)
    wrong = keras.Model([image, keras.Input((3,), name="few")], L.Dense(10)(L.Flatten()(image)))
    with pytest.raises(ValueError, match="expected the last input of .* to take the predictions before it, of shape .10,.. Received: .3,."):
        Chained(FAST)([net(0), wrong], DIGITS)


def test_values_are_added_to_values():
    x = np.random.default_rng(0).normal(size=(80, 3)).astype("float32")
    data = Data(train=(x, x.sum(1, keepdims=True)), validation=(x, x.sum(1, keepdims=True)))
    line = keras.Sequential([keras.Input((3,)), L.Dense(1)])
    chain, report = Chained(FAST, pretrained=True)([line, line], data)
    assert chain.output_shape == (None, 1) and "validation/rmse" in report.metrics


def test_what_cannot_be_is_said_before(pair, halves):
    with pytest.raises(ValueError, match="expected one kdfuse.Data for each of 2 models"):
        Chained(FAST)(pair, halves[:1])
    with pytest.raises(ValueError, match="expected 2 or more models"):
        Chained(FAST)(pair[:1], DIGITS)
    other = Data(train=(X[:, :4], Y), class_names=[str(one) for one in range(10)])
    with pytest.raises(ValueError, match="expected data sets with the inputs of the last one, .* in data set 1"):
        Chained(FAST)(pair, [other, DIGITS])
    narrow = keras.Sequential([keras.Input((5,)), L.Dense(10)])
    with pytest.raises(ValueError, match="model 2 does not fit data set 2.*cannot take the inputs"):
        Chained(FAST)([pair[0], narrow], halves)
    # Every stage is checked before the first is trained.
    none = DIGITS.with_splits(validation=None)
    seen = Memory()
    with use(seen), pytest.raises(ValueError, match="watches 'validation/loss'"):
        Chained(Train(stopping=Stopping()))(pair, [DIGITS, none])
    assert not seen.events
    for name in ("finetune", "pretrained"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            Chained(**{name: 1})
    with pytest.raises(TypeError, match="`training`"):
        Chained(training=3)
