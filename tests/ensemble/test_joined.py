"""One graph over the same inputs."""

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.ensemble.combiners.mean import Mean
from kdfuse.ensemble.joined import inputs_for, join, outputs_of
from kdfuse.ensemble.members import take
from kdfuse.ensemble.values import Probabilities

L = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 6)).astype("float32"), RNG.integers(0, 3, 40)


def net(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((6,)), L.Dense(3)])


def test_members_run_on_the_same_inputs():
    data = Data(train=(X, Y))
    members = take([net(0), net(1)], data)
    model = join(members, data, lambda place: Mean(), scale=None, name="joined")
    assert model.name == "joined" and model.input_shape == (None, 6)
    np.testing.assert_allclose(model(X), (np.asarray(net(0)(X)) + np.asarray(net(1)(X))) / 2, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_several_inputs_and_outputs_keep_their_structure(kind):
    def build(seed):
        keras.utils.set_random_seed(seed)
        a, b = keras.Input((6,), name="a"), keras.Input((2,), name="b")
        x = L.Concatenate()([a, b])
        one, two = L.Dense(3, name="one")(x), L.Dense(1, "sigmoid", name="two")(x)
        return keras.Model({"a": a, "b": b}, {"one": one, "two": two}) if kind == "dict" else keras.Model([a, b], [one, two])

    pair = {"a": X, "b": X[:, :2]} if kind == "dict" else (X, X[:, :2])
    labels = {"one": Y, "two": Y % 2} if kind == "dict" else (Y, Y % 2)
    data = Data(train=(pair, labels))
    members = take([build(0), build(1)], data)
    inputs = inputs_for([one.model for one in members], data)
    assert [len(column) for column in outputs_of(members, inputs, "probabilities")] == [2, 2]
    model = join(members, data, lambda place: Mean(name=f"mean_{place}"), scale="probabilities", name="joined")
    given = pair if kind == "dict" else list(pair)
    made, each = model(given), [build(seed)(given) for seed in (0, 1)]
    second = (lambda found: found["two"]) if kind == "dict" else (lambda found: found[1])
    np.testing.assert_allclose(second(made), (np.asarray(second(each[0])) + np.asarray(second(each[1]))) / 2, rtol=1e-5)


def test_inputs_have_the_dtype_and_shape_of_the_models_or_of_the_rows():
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x):
            return self.dense(keras.ops.cast(x, "float32") / 255)

    images = RNG.integers(0, 255, (20, 6)).astype("uint8")
    plain = Plain()
    plain(images[:2])
    made = inputs_for([plain], Data(train=(images, Y[:20])))
    assert made.shape == (None, 6) and made.dtype == "uint8"


def test_inputs_hold_what_every_model_takes():
    def of(dtype):
        given = keras.Input((6,), dtype=dtype)
        return keras.Model(given, L.Dense(3)(L.Rescaling(1.0)(given)))

    data = Data(train=(X, Y))
    for dtypes, want in ((("uint8", "float32"), "float32"), (("uint8", "int32"), "int32"), (("uint8", "uint8"), "uint8")):
        assert inputs_for([of(one) for one in dtypes], data).dtype == want


def test_one_output_in_a_dict_stays_in_it_and_names_may_be_those_that_keras_counts():
    def build(name):
        given = keras.Input((6,))
        return keras.Model(given, {"digit": L.Dense(3)(given)}, name=name)

    data = Data(train=(X, {"digit": Y}))
    number = int([Probabilities("logits").name for _ in range(2)][1].rpartition("_")[2])
    members = take([build(f"probabilities_{number + more}") for more in range(1, 5)], data)
    model = join(members, data, lambda place: Mean(), scale="probabilities", name="joined")
    assert set(model(X)) == {"digit"}


def test_masked_steps_stay_masked():
    def build(seed):
        keras.utils.set_random_seed(seed)
        given = keras.Input((5,), dtype="int32")
        return keras.Model(given, L.Dense(3)(L.Embedding(9, 4, mask_zero=True)(given)))

    steps = RNG.integers(1, 9, (40, 5)).astype("int32")
    steps[:, 3:] = 0
    data = Data(train=(steps, steps % 3), task="classification")
    for scale in ("probabilities", "logits"):
        model = join(take([build(0), build(1)], data), data, lambda place: Mean(), scale=scale, name="joined")
        np.testing.assert_array_equal(model(steps)._keras_mask, steps != 0)
