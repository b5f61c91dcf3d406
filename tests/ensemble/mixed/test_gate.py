"""Gate: the mixture, its settings, what stays, what is refused."""

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.datasets.load import load
from kdfuse.distill.distill import Distill
from kdfuse.ensemble.members import take
from kdfuse.ensemble.mixed.gate import Gate, ahead, gated, predicts_once
from kdfuse.ensemble.mixed.gating import variation
from kdfuse.models.mlp import mlp
from kdfuse.settings import settings
from kdfuse.technique import Technique
from kdfuse.train import Train

DIGITS = load("digits", labels=120)
X, Y, _ = DIGITS.train.head(120)
X_VALID = DIGITS.validation.head(1000)[0]
DATA = DIGITS.with_splits(test=None)
BARE = DATA.with_splits(validation=None)
FAST = Train(epochs=6, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)
L = keras.layers


def net(seed, activation=None, units=10, shape=(8, 8, 1), name=None):
    keras.utils.set_random_seed(seed)
    layers = [L.Flatten(), L.Dense(12, "relu"), L.BatchNormalization(), L.Dropout(0.3), L.Dense(units, activation)]
    return keras.Sequential([keras.Input(shape), *layers], name=name or f"net_{seed}")


MEMBERS = [net(0), net(1, "softmax"), net(2)]


def mixed(gate, models=MEMBERS, data=BARE):
    gate.check(models, data)
    return gate.apply(models, data)


def probabilities(model, x):
    values = np.asarray(model(x), "float64")
    grown = np.exp(values - values.max(1, keepdims=True))
    return values if model.layers[-1].activation is keras.activations.softmax else grown / grown.sum(1, keepdims=True)


def weights_of(model, x=X_VALID):
    return np.asarray(model.get_layer("gate")(x), "float64")


def loss(model):
    return float(keras.losses.sparse_categorical_crossentropy(Y, model(X)).numpy().mean())


@pytest.fixture(scope="module")
def dense():
    return mixed(Gate(training=FAST), data=DATA)


def test_the_mixture_is_the_sum_of_the_members_each_times_its_weight(dense):
    weights = weights_of(dense.model)
    expected = sum(weights[:, [place]] * probabilities(one, X_VALID) for place, one in enumerate(MEMBERS))
    np.testing.assert_allclose(dense.model(X_VALID), expected, atol=1e-5)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    rows = dense.tables["gate"]
    assert [row["model"] for row in rows] == ["1: net_0", "2: net_1", "3: net_2"]
    np.testing.assert_allclose([row["weight"] for row in rows], weights.mean(0), atol=1e-6)
    load = np.eye(3)[weights.argmax(1)].mean(0)
    np.testing.assert_allclose([row["load"] for row in rows], load)
    assert dense.metrics["gate/load_variation"] == pytest.approx((load.std() / load.mean()) ** 2, rel=1e-4)
    assert dense.metrics["gate/importance_variation"] == pytest.approx((weights.sum(0).std() / weights.sum(0).mean()) ** 2, rel=1e-3)
    entropy = -(weights * np.log(weights)).sum(1)
    assert dense.metrics["gate/effective_members"] == pytest.approx(np.exp(entropy).mean(), rel=1e-5)


def test_frozen_members_stay_and_the_gate_learns(dense):
    for model in MEMBERS:
        inside = dense.model.get_layer(model.name)
        assert all(np.array_equal(a, b) for a, b in zip(inside.get_weights(), model.get_weights(), strict=True))
        assert inside.trainable and all(layer.trainable for layer in inside.layers) and dense.baselines[model.name] is model
    assert dense.history["train/loss"][-1] < dense.history["train/loss"][0] and len(dense.history["validation/loss"]) == 6


@settings
class Wrapped(Technique):
    """A trainer like any other that is not `Train` itself."""

    training: Train = FAST

    def check(self, model, data):
        self.training.check(model, data)

    def private(self, model, data):
        return self.training.private(model, data)

    def fit(self, model, data, callbacks=()):
        return self.training.fit(model, data, callbacks)

    def public(self, model, data):
        return self.training.public(model, data)


def test_members_that_run_in_every_step_teach_the_gate_the_same(dense):
    assert predicts_once(FAST, DATA) and not predicts_once(Wrapped(), DATA)
    assert not predicts_once(Train(augment=L.RandomFlip()), DATA)
    assert not predicts_once(FAST, DATA.with_splits(train=DATA.train.dataset(50)))
    other = mixed(Gate(training=Wrapped()))
    np.testing.assert_allclose(weights_of(other.model), weights_of(dense.model), atol=1e-4)
    inside = other.model.get_layer("net_0")
    assert all(np.array_equal(a, b) for a, b in zip(inside.get_weights(), MEMBERS[0].get_weights(), strict=True))
    assert inside.trainable and inside.layers[1].trainable


def test_what_members_say_ahead():
    rows = ahead(take(MEMBERS, DATA), DATA)
    assert rows.test is None and len(rows.train.x[1]) == 3
    np.testing.assert_array_equal(rows.train.x[0], X)
    np.testing.assert_allclose(rows.validation.x[1][2], probabilities(MEMBERS[2], X_VALID), atol=1e-5)


def test_live_members_are_trained_along_but_for_what_is_not_trainable():
    held = net(1, "softmax")
    held.layers[1].trainable = False
    result = mixed(Gate(members="live", training=FAST), [MEMBERS[0], held])
    inside = result.model.get_layer("net_0"), result.model.get_layer("net_1")
    assert not np.allclose(inside[0].get_weights()[0], MEMBERS[0].get_weights()[0])
    assert np.array_equal(inside[1].get_weights()[0], held.get_weights()[0]) and not inside[1].layers[1].trainable
    assert not np.allclose(inside[1].get_weights()[-1], held.get_weights()[-1])
    assert loss(result.model) < loss(gated(take([MEMBERS[0], held], BARE), result.model.get_layer("gate"), BARE)) - 0.2


def test_top_k_and_a_gate_of_ones_own():
    seen = []

    def builder(data):
        seen.append(data)
        return mlp(data, units=(6,))

    result = mixed(Gate(top_k=2, gate=builder, training=FAST))
    weights = weights_of(result.model)
    assert ((weights > 0).sum(1) == 2).all()
    load = (weights_of(result.model, X) > 0).mean(0)
    assert [row["load"] for row in result.tables["gate"]] == pytest.approx(load)
    assert seen[0].classes == 3 and seen[0].task == "classification" and seen[0].class_names == ("net_0", "net_1", "net_2")
    assert seen[0].input_shape == (8, 8, 1) and any(layer.name == "mlp" for layer in result.model.get_layer("gate").layers)


def test_balance_makes_the_use_of_the_members_even(dense):
    even = mixed(Gate(balance=0.2, training=FAST))
    found = [float(variation(weights_of(one.model, X).sum(0))) for one in (dense, even)]
    assert found[1] < found[0] / 3 and even.metrics["gate/importance_variation"] == pytest.approx(found[1], rel=1e-3)


def test_a_file_and_a_teacher(dense, tmp_path):
    dense.model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(X), dense.model(X))
    Distill(dense.model, training=FAST).check(net(7), DATA)


@pytest.mark.slow
def test_a_mixture_in_a_mixture_and_its_report(dense):
    again, report = Gate(training=Train(epochs=1, optimizer="sgd", steps_per_execution=1, checkpoint=0))([dense.model, MEMBERS[0]], BARE)
    assert again.get_layer("gate") and [row["model"] for row in report.rows()] == ["ensemble", "gated", MEMBERS[0].name]
    assert report.tables["gate"][0]["model"] == "1: gated"


def test_regression_with_several_inputs_and_outputs():
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(60, 3)).astype("float32"), "b": rng.integers(0, 5, (60, 2)).astype("int32")}
    y = {"one": x["a"][:, :1], "two": x["a"][:, 1:]}
    data = Data(train=(x, y))

    def two(seed):
        keras.utils.set_random_seed(seed)
        given = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), dtype="int32", name="b")}
        z = L.Concatenate()([given["a"], L.Rescaling(0.2)(given["b"])])
        return keras.Model(given, {"one": L.Dense(1)(z), "two": L.Dense(2)(z)}, name=f"two_{seed}")

    models = [two(0), two(1)]
    result = mixed(Gate(training=FAST), models, data)
    weights, found = np.asarray(result.model.get_layer("gate")(x)), result.model(x)
    for name in ("one", "two"):
        expected = sum(weights[:, [place]] * np.asarray(one(x)[name]) for place, one in enumerate(models))
        np.testing.assert_allclose(found[name], expected, atol=1e-5)


def test_inputs_of_open_size_are_averaged():
    spec = keras.Input((None, 4))
    steps = [keras.Model(spec, L.Dense(2)(L.GlobalMaxPooling1D()(spec)), name=f"steps_{place}") for place in range(2)]
    x = np.random.default_rng(0).normal(size=(20, 6, 4)).astype("float32")
    data = Data(train=(x, np.arange(20) % 2))
    members = take(steps, data)
    gate = Gate()._gate(members, data)
    model = gated(members, gate, data)
    assert model(x[:, :3]).shape == (20, 2)
    np.testing.assert_allclose(gate(x), gate(np.repeat(x.mean(1, keepdims=True), 2, 1)), atol=1e-5)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"top_k": 1}, ValueError, "`top_k`: expected an integer of at least 2, or None"),
        ({"top_k": 2.0}, ValueError, "`top_k`"),
        ({"gate": 3}, TypeError, "`gate`: expected a builder"),
        ({"members": "thawed"}, ValueError, "`members`"),
        ({"balance": -1}, ValueError, "`balance`: expected a number of at least 0"),
        ({"training": 3}, TypeError, "`training`"),
    ],
)
def test_settings_that_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        Gate(**given)


def test_models_and_data_that_are_refused():
    with pytest.raises(ValueError, match="`top_k`: expected at most 3, the number of members. Received: 4"):
        Gate(top_k=4).check(MEMBERS, DATA)
    with pytest.raises(ValueError, match="`gate`: expected a builder of models with 3 outputs"):
        Gate(gate=lambda data: net(0, units=5)).check(MEMBERS, DATA)
    with pytest.raises(ValueError, match="`gate`: the model that the builder made does not take the inputs"):
        Gate(gate=lambda data: net(0, units=3, shape=(5,))).check(MEMBERS, DATA)
    with pytest.raises(TypeError, match="made by the builder `gate`"):
        Gate(gate=lambda data: 3).check(MEMBERS, DATA)
    with pytest.raises(ValueError, match="no labels"):
        Gate().check(MEMBERS, Data(train=(X, None), validation=(X, Y)))
