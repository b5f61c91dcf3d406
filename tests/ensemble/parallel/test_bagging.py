"""Bagging: rows and seeds of the members, the estimate out of the bag, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.ensemble.combiners.geometric_mean import GeometricMean
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.combiners.weighted import Weighted
from kdfuse.ensemble.grown import at_place, born
from kdfuse.ensemble.members import take
from kdfuse.ensemble.parallel.bagging import Bagging, drawn, out_of_bag
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.measure.predict import predict
from kdfuse.train import Train

DIGITS = load("digits", labels=200)
FAST = Train(epochs=1, optimizer="sgd", learning_rate=0.2, steps_per_execution=1, seed=3, checkpoint=0)


@pytest.fixture(autouse=True)
def only_quality(monkeypatch):
    for name in ("timed", "size"):  # neither is what these tests are about
        monkeypatch.setattr(f"kdfuse.measure.measure.{name}", lambda *given: {})


def net(outputs=10):
    return keras.Sequential([keras.Input(DIGITS.input_shape), keras.layers.Flatten(), keras.layers.Dense(outputs)], name="net")


@pytest.fixture(scope="module")
def given():
    keras.utils.set_random_seed(0)
    return net()


@pytest.fixture(scope="module")
def bagged(given):
    with recording.silence():
        return Bagging(2, training=FAST)(given, DIGITS)


def members_of(model):
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def test_each_member_is_what_train_gives_on_its_sample_from_its_weights(given, bagged):
    model, report = bagged
    before = fingerprint(given)
    kernels = [one.get_weights() for one in members_of(model)]
    for place, found in enumerate(kernels):
        rows = np.random.default_rng([3, place, 1]).integers(200, size=200)
        sample = DIGITS.with_splits(train=DIGITS.train.take(rows))
        alone = at_place(FAST, place).apply(born(given, DIGITS, 3, place), sample).model
        for one, other in zip(found, alone.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    assert fingerprint(given) == before and not np.allclose(kernels[0][0], kernels[1][0], atol=1e-2)
    assert [child.name for child in report.children] == ["member 1", "member 2"]
    assert not any(name.startswith("test/") for child in report.children for name in child.metrics)
    assert [row["model"] for row in report.rows()] == ["ensemble", "member 1", "member 2"]


def test_the_ensemble_is_the_mean_of_its_members_and_comes_back_from_a_file(bagged, tmp_path):
    model, _ = bagged
    x = DIGITS.example(20)
    chances = np.mean([keras.ops.softmax(one(x)) for one in members_of(model)], axis=0)
    np.testing.assert_allclose(model(x), chances, atol=1e-6)
    model.save(tmp_path / "bagged.keras")
    assert np.array_equal(keras.models.load_model(tmp_path / "bagged.keras")(x), model(x))


def test_out_of_bag_accuracy(bagged):
    model, report = bagged
    chances = np.stack([keras.ops.convert_to_numpy(keras.ops.softmax(predict(one, DIGITS.train))) for one in members_of(model)])
    right = []
    for row, label in enumerate(DIGITS.train.y):
        unseen = [place for place in range(2) if row not in drawn(200, 3, place)]
        if unseen:
            right.append(chances[unseen, row].mean(axis=0).argmax() == label)
    assert 100 < len(right) < 200
    assert report.metrics["ensemble/oob_accuracy"] == pytest.approx(np.mean(right))


def test_several_outputs_and_regressions():
    x, digit = DIGITS.train.x, DIGITS.train.y
    inputs = keras.Input(DIGITS.input_shape)
    flat = keras.layers.Flatten()(inputs)
    heads = {"digit": keras.layers.Dense(10, name="digit")(flat), "size": keras.layers.Dense(1, name="size")(flat)}
    size = (digit[:, None] / 9.0).astype("float32")
    data = Data(train=(x, {"digit": digit, "size": size}), validation=(x[:50], {"digit": digit[:50], "size": size[:50]}))
    members = take([keras.models.clone_model(keras.Model(inputs, heads)) for _ in range(3)], data)
    samples = [drawn(200, 0, place) for place in range(3)]
    found = out_of_bag(members, data, samples)["ensemble/oob_accuracy"]
    chances = np.stack([keras.ops.convert_to_numpy(keras.ops.softmax(one.model(x)["digit"])) for one in members])
    unseen = np.array([[row not in sample for row in range(200)] for sample in samples])
    means = [chances[unseen[:, row], row].mean(axis=0) for row in range(200) if unseen[:, row].any()]
    assert found == pytest.approx(np.mean(np.argmax(means, axis=1) == digit[unseen.any(axis=0)]))
    alone = Data(train=(x, size), validation=0.1)
    assert out_of_bag(take([net(1), net(1)], alone), alone, [np.arange(90)] * 2) == {}


def test_without_the_bootstrap_all_see_all_rows_and_a_compiled_loss_is_that_of_every_member():
    model = net()
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    result = Bagging(2, bootstrap=False, combiner=GeometricMean(), training=FAST).apply(model, DIGITS)
    assert "ensemble/oob_accuracy" not in result.metrics
    assert all(one.loss.from_logits for one in result.baselines.values())
    fresh = born(model, DIGITS, 3, 1)
    alone = at_place(FAST, 1).apply(fresh, DIGITS).model
    np.testing.assert_allclose(members_of(result.model)[1].get_weights()[0], alone.get_weights()[0], atol=1e-6)
    x = DIGITS.example(10)
    wanted = keras.ops.softmax(np.mean([one(x) for one in members_of(result.model)], axis=0))
    np.testing.assert_allclose(result.model(x), wanted, atol=1e-6)


def test_what_is_refused(given):
    for wrong, said in (({"members": 1}, "`members`"), ({"members": 2.5}, "`members`"), ({"bootstrap": 1}, "`bootstrap`")):
        with pytest.raises(ValueError, match=said):
            Bagging(**wrong)
    for wrong, said in (({"combiner": "mean"}, "`combiner`"), ({"training": 3}, "`training`")):
        with pytest.raises(TypeError, match=said):
            Bagging(**wrong)
    stream = Data(train=tf.data.Dataset.from_tensor_slices((DIGITS.train.x, DIGITS.train.y)).batch(32), class_names=list("0123456789"))
    with pytest.raises(ValueError, match="`data` of Bagging.*arrays.*bootstrap=False"):
        Bagging(2, training=FAST)(given, stream)
    with pytest.raises(ValueError, match="`combiner`"):
        Bagging(2, combiner=GeometricMean(), training=FAST)(net(1), Data(train=(DIGITS.train.x, np.ones((200, 1)) / 3), validation=0.1))
    with pytest.raises(ValueError, match="`data` of Bagging.*fitted on the validation split"):
        Bagging(2, combiner=Weighted(), training=FAST)(given, Data(train=(DIGITS.train.x, DIGITS.train.y)))
    with pytest.raises(ValueError, match="`weights`: expected one for each of 3"):
        Bagging(3, combiner=Weighted([1, 2]), training=FAST)(given, DIGITS)
    assert Bagging(2, combiner=Mean()).members == 2


@pytest.mark.parametrize("bootstrap", [True, False])
def test_trained_at_once_the_members_are_the_same(given, bagged, bootstrap):
    one_by_one = bagged if bootstrap else Bagging(2, bootstrap=False, training=FAST)(given, DIGITS)
    at_once, report = Bagging(2, bootstrap=bootstrap, training=FAST, at_once=True)(given, DIGITS)
    x = DIGITS.example(50)
    np.testing.assert_allclose(at_once(x), one_by_one[0](x), atol=1e-5)
    assert not report.children and len(report.history["train/loss"]) == FAST.epochs
    assert ("ensemble/oob_accuracy" in report.metrics) == bootstrap


def test_what_cannot_be_trained_at_once_says_why(given):
    image = keras.Sequential([keras.Input(DIGITS.input_shape), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(10)])
    with pytest.raises(ValueError, match="`at_once`: expected False, for layer .*Conv2D.* has no form for several members. Received: True"):
        Bagging(2, at_once=True)(image, DIGITS)
    with pytest.raises(ValueError, match="`at_once`: expected True or False"):
        Bagging(at_once=1)
