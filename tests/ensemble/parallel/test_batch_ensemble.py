"""BatchEnsemble: the forward pass against NumPy, training, shared layers, graphs of several kinds, what is refused."""

import dataclasses

import keras
import numpy as np
import pytest

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.distill.distill import Distill
from kdfuse.ensemble.parallel.batch_ensemble import BatchEnsemble, build, member_of
from kdfuse.ensemble.parallel.fast_weights import FastWeights
from kdfuse.ensemble.serial.escalate import Escalate
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.train import Train

DIGITS = load("digits", labels=200)
FAST = Train(epochs=1, batch_size=50, learning_rate=0.01, checkpoint=0)
L = keras.layers


@pytest.fixture(autouse=True)
def only_quality(monkeypatch):
    for name in ("timed", "size"):  # neither is what these tests are about
        monkeypatch.setattr(f"kdfuse.measure.measure.{name}", lambda *given: {})


def convnet(last="softmax"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(DIGITS.input_shape)
    x = L.Conv2D(4, 3, activation="relu", name="conv")(L.Reshape((8, 8, 1))(inputs))
    x = L.Flatten()(L.MaxPooling2D()(L.BatchNormalization(name="norm")(x)))
    return keras.Model(inputs, L.Dense(10, last, name="head")(L.Dropout(0.1)(x)), name="net")


def mlp():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(DIGITS.input_shape), L.Flatten(), L.Dense(12, "relu", name="mid"), L.Dense(10, name="head")])


@pytest.fixture(scope="module")
def given():
    return convnet()


@pytest.fixture(scope="module")
def made(given):
    with recording.silence():
        return BatchEnsemble(3, Train(epochs=10, batch_size=20, learning_rate=0.02, checkpoint=0))(given, DIGITS)


def softmax(z):
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def test_the_forward_pass_against_numpy():
    model = build(mlp(), DIGITS, 3, FAST).model
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape) * 0.5)
    x = DIGITS.example(6)
    chances = []
    for member in range(3):
        z = x.reshape(6, -1)
        for name in ("mid", "head"):
            layer = model.get_layer(name)
            r, s, b = (keras.ops.convert_to_numpy(one).reshape(3, -1)[member] for one in (layer.r, layer.s, layer.b))
            z = (z * r) @ keras.ops.convert_to_numpy(layer.layer.kernel) * s + b
            z = np.maximum(z, 0) if name == "mid" else z
        chances.append(softmax(z))
    np.testing.assert_allclose(model(x), np.mean(chances, axis=0), atol=1e-5)
    # In training row i is one of member i mod members alone.
    np.testing.assert_allclose(model(x, training=True), [chances[row % 3][row] for row in range(6)], atol=1e-5)


def test_it_learns_and_its_members_are_plain_models(given, made):
    model, report = made
    assert report["test/accuracy"] > 0.75
    rows = {row["model"]: row for row in report.rows()}
    assert list(rows) == ["ensemble", "member 1", "member 2", "member 3"]
    vectors = 3 * (1 + 4 + 4) + 3 * (36 + 10 + 10)
    assert model.count_params() == given.count_params() + vectors - (4 + 10)
    assert rows["ensemble"]["cost/macs"] == 3 * rows["member 1"]["cost/macs"]
    assert any(note == "Shared by all members: norm." for note in report.notes)
    assert len(report.history["validation/loss"]) == 10 and "ensemble/disagreement" in report.metrics


def test_the_ensemble_is_the_mean_of_its_members_and_comes_back_from_a_file(given, made, tmp_path):
    model, x = made[0], DIGITS.example(20)
    names = build(given, DIGITS, 3, FAST).names
    members = [member_of(model, given, place, names, DIGITS) for place in range(3)]
    assert [layer.name for layer in members[0].layers] == [layer.name for layer in given.layers]
    np.testing.assert_allclose(model(x), np.mean([one(x) for one in members], axis=0), atol=1e-5)
    model.save(tmp_path / "batch.keras")
    assert np.array_equal(keras.models.load_model(tmp_path / "batch.keras")(x), model(x))


def test_the_weights_given_are_shared_and_stay(given):
    before = fingerprint(given)
    model = build(given, DIGITS, 2, FAST).model
    for name in ("conv", "head"):
        fast, plain = model.get_layer(name), given.get_layer(name)
        assert np.array_equal(fast.layer.kernel, plain.kernel) and np.array_equal(fast.bias_of(1), plain.bias)
        assert set(np.unique(fast.r)) == {-1.0, 1.0} and not np.array_equal(fast.s[:4], fast.s[4:8])
    assert not np.array_equal(model.get_layer("head").r, build(given, DIGITS, 2, Train(seed=1)).model.get_layer("head").r)
    assert fingerprint(given) == before


def test_under_a_teacher_with_a_declared_head(given):
    result = BatchEnsemble(2, Distill(given, training=dataclasses.replace(FAST, head="logits"))).apply(mlp(), DIGITS)
    assert result.model.get_layer("head").members == 2 and np.isfinite(result.history["train/loss"]).all()
    assert not np.array_equal(result.model.get_layer("head").layer.kernel, mlp().get_layer("head").kernel)
    # The declared head is that of the members; their mean gives probabilities.
    np.testing.assert_allclose(np.sum(result.model(DIGITS.example(4)), axis=-1), 1, atol=1e-5)
    assert result.heads == {"member 1": "logits", "member 2": "logits"}


def test_several_inputs_outputs_and_nested_models():
    trunk = keras.Sequential([keras.Input((4,)), L.Dense(5, "relu", name="a"), L.Dense(3, name="b")], name="trunk")
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    both = L.Concatenate()([trunk(one), trunk(two)])
    outputs = {"kind": L.Dense(3, name="kind")(both), "size": L.Dense(1, name="a")(both)}  # a name that the trunk has as well
    model = keras.Model({"one": one, "two": two}, outputs)
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(60, 4)).astype("float32") for name in ("one", "two")}
    y = {"kind": rng.integers(0, 3, 60), "size": rng.normal(size=(60, 1)).astype("float32")}
    data = Data(train=(x, y), validation=0.2)
    made = build(model, data, 2, FAST)
    assert len(made.fast) == 4 and set(made.model.output) == {"kind", "size"}
    BatchEnsemble(2, FAST).check(model, data)
    found = made.model(x)
    members = [member_of(made.model, model, place, made.names, data)(x) for place in range(2)]
    np.testing.assert_allclose(found["kind"], np.mean([softmax(np.asarray(one["kind"])) for one in members], axis=0), atol=1e-5)
    np.testing.assert_allclose(found["size"], np.mean([one["size"] for one in members], axis=0), atol=1e-5)


def test_of_a_cascade_with_several_outputs():
    inputs = keras.Input(DIGITS.input_shape)
    shared = L.Dense(6, name="shared")(L.Flatten()(inputs))
    model = keras.Model(inputs, {"digit": L.Dense(10, "softmax")(shared), "even": L.Dense(2, "softmax")(shared)})
    asking = keras.Model(inputs, Escalate(keras.models.clone_model(model), 0.5, heads=["softmax", "softmax"])((inputs, model(inputs))))
    x, y, _ = DIGITS.train.head(64)
    data = Data(train=(x, {"digit": y, "even": y % 2}))
    made = build(asking, data, 2, FAST)
    assert set(made.model(x[:3])) == {"digit", "even"} and len(set(made.model.output_names)) == 2 and len(made.fast) == 3


def test_integer_inputs_and_frozen_layers():
    rng = np.random.default_rng(0)
    data = Data(train=(rng.integers(0, 30, (40, 6)).astype("int32"), np.arange(40)[:, None] % 2), validation=0.2)
    inputs = keras.Input((6,), dtype="int32")
    frozen = L.Dense(4, name="frozen")
    x = L.GlobalAveragePooling1D()(frozen(L.Embedding(30, 8, name="embedding")(inputs)))
    model = keras.Model(inputs, L.Dense(1, "sigmoid", name="head")(x))
    frozen.trainable = False
    made = build(model, data, 2, FAST)
    assert made.fast == ["head"] and not isinstance(made.model.get_layer("frozen"), FastWeights)
    assert made.model(data.example(3)).shape == (3, 1)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = L.Dense(10)

    def get_config(self):
        return {}

    def call(self, inputs):
        return self.head(keras.ops.reshape(inputs, (-1, 64)))


def test_what_is_refused(given):
    with pytest.raises(ValueError, match="`members`: expected an integer of at least 2"):
        BatchEnsemble(1)
    with pytest.raises(ValueError, match="`members`: expected at most the 32 rows of a batch"):
        BatchEnsemble(33)
    with pytest.raises(TypeError, match="`training`"):
        BatchEnsemble(2, 3)
    with pytest.raises(ValueError, match="`training`: a BatchEnsemble gives probabilities"):
        BatchEnsemble(2, Train(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)))(given, DIGITS)
    plain = keras.Sequential([keras.Input(DIGITS.input_shape), L.Flatten(), L.EinsumDense("ab,bc->ac", 10)])
    with pytest.raises(ValueError, match="expected a trainable Dense or Conv2D layer"):
        BatchEnsemble(2)(plain, DIGITS)

    with pytest.raises(ValueError, match="expected a Functional or Sequential model. Received: Own"):
        BatchEnsemble(2)(Own(), DIGITS)
