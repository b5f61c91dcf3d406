"""Two links of a chain as one graph."""

import keras
import numpy as np
import pytest
from scipy.special import expit, logit

from kdfuse.data import Data
from kdfuse.ensemble.serial.link import Stage, linked, takes_more
from kdfuse.train import Train

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = np.arange(40) % 3
DATA = Data(train=(X, Y))


def net(columns=3, activation=None, rate=0.0, seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), L.Dense(6), L.Dropout(rate), L.Dense(columns, activation)], name=f"net_{seed}")


@pytest.mark.parametrize(("columns", "activation"), [(3, None), (3, "softmax"), (1, "sigmoid")])
def test_at_first_it_is_the_next_model(columns, activation):
    data = DATA if columns == 3 else Data(train=(X, (Y > 0).astype(int)[:, None]))
    given = net(columns, activation, seed=1)
    np.testing.assert_allclose(linked(Stage(net(), DATA), Stage(given, data), 2)(X), given(X), rtol=1e-4, atol=1e-6)


def test_what_was_said_is_added_on_the_scale_of_logits():
    data = Data(train=(X, (Y > 0).astype(int)[:, None]))
    first, second = net(), net(1, "sigmoid", seed=1)
    made = linked(Stage(first, DATA), Stage(second, data), 2)
    kernel = RNG.normal(size=(3, 1))
    made.get_layer("adding_2_0").set_weights([kernel, np.array([0.5])])
    want = expit(logit(np.asarray(second(X))) + np.asarray(keras.ops.softmax(first(X))) @ kernel + 0.5)
    np.testing.assert_allclose(made(X), want, rtol=1e-4)


def test_what_is_frozen_has_no_dropout_and_is_not_trained(tmp_path):
    stages = Stage(net(rate=0.5), DATA), Stage(net(seed=1), DATA)
    frozen, free = linked(*stages, 2, frozen=True), linked(*stages, 2)
    for made in (frozen, free):
        made.get_layer("adding_2_0").set_weights([np.eye(3), np.zeros(3)])
    np.testing.assert_allclose(frozen(X, training=True), frozen(X, training=False), rtol=1e-6)
    assert np.abs(free(X, training=True) - free(X, training=False)).max() > 0.01
    assert len(frozen.trainable_variables) == 4 + 2 and len(free.trainable_variables) == 4 + 4 + 2
    frozen.save(tmp_path / "m.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.keras")(X), free(X), rtol=1e-5, atol=1e-6)


def test_training_leaves_what_is_frozen():
    keras.utils.set_random_seed(0)
    first = keras.Sequential([keras.Input((4,)), L.Dense(6), L.BatchNormalization(), L.Dense(3)])
    made, _ = Train(epochs=1, learning_rate=0.1, checkpoint=0)(linked(Stage(first, DATA), Stage(net(seed=1), DATA), 2, frozen=True), DATA)
    for now, then in zip(made.get_layer("before_2").get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)
    assert np.abs(made.get_layer("adding_2_0").weights[0]).max() > 0


def two_outputs(seed, names="ab"):
    keras.utils.set_random_seed(seed)
    given = keras.Input((4,))
    return keras.Model(given, {name: L.Dense(place + 2)(given) for place, name in enumerate(names)}, name=f"two_{seed}")


def test_equal_outputs_hear_their_own_and_others_all():
    data = Data(train=(X, {"a": Y % 2, "b": Y}))
    made = linked(Stage(two_outputs(0), data), Stage(two_outputs(1), data), 2)
    assert [made.get_layer(f"adding_2_{place}").weights[0].shape for place in range(2)] == [(2, 2), (3, 3)]
    made = linked(Stage(two_outputs(0), data), Stage(net(), DATA), 2)
    assert made.get_layer("adding_2_0").weights[0].shape == (5, 3)


def test_a_dict_of_inputs_gets_the_name_that_it_lacks():
    data = Data(train=({"u": X, "v": X}, Y))
    one, two = keras.Input((4,), name="u"), keras.Input((4,), name="v")
    first = keras.Model({"u": one, "v": two}, L.Dense(3)(L.Add()([one, two])))
    said = keras.Input((3,), name="a")
    second = keras.Model({"a": said, "u": one, "v": two}, L.Dense(3)(L.Concatenate()([said, one, two])))
    assert takes_more(second, data) and not takes_more(first, data)
    made = linked(Stage(first, data), Stage(second, data), 2)
    rows = {"u": keras.ops.convert_to_tensor(X), "v": keras.ops.convert_to_tensor(2 * X)}
    np.testing.assert_allclose(made(rows), second({"a": keras.ops.softmax(first(rows)), **rows}), rtol=1e-5, atol=1e-6)


def test_shapes_that_do_not_fit():
    steps = Data(train=(X, np.stack([Y, Y], 1)), task="classification")
    per_step = keras.Sequential([keras.Input((4,)), L.Dense(6), L.Reshape((2, 3))])
    with pytest.raises(ValueError, match="cannot take predictions of shape"):
        linked(Stage(net(), DATA), Stage(per_step, steps), 2)
    more = keras.Model([one := keras.Input((4,)), keras.Input((7,))], L.Dense(3)(one))
    with pytest.raises(ValueError, match=r"expected the last input of .* of shape \(3,\). Received: \(7,\)"):
        linked(Stage(net(), DATA), Stage(more, DATA), 2)
