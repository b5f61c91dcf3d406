"""Renewed models: other weights by seed alone, the same everything else."""

import threading

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.graph.renew import renew
from kdfuse.models.convnet import convnet

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
GLOROT = keras.initializers.GlorotUniform


def functional():
    inputs = keras.Input((64,), name="pixels")
    shared = keras.layers.Dense(64, "relu", name="shared")
    inner = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16), keras.layers.BatchNormalization()], name="inner")
    return keras.Model(inputs, keras.layers.Dense(10, name="head")(inner(shared(shared(inputs)))), name="net")


def sequential():
    fixed = [keras.layers.Dense(16, "relu", kernel_initializer=GLOROT(seed=3), name=f"fixed_{place}") for place in range(2)]
    return keras.Sequential([keras.Input((64,)), *fixed, keras.layers.Dropout(0.5), keras.layers.Dense(10)])


class Own(keras.Model):
    """A subclassed model whose layer holds a fixed seed in its code."""

    def __init__(self, units=8, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first, self.last = keras.layers.Dense(units, "relu"), keras.layers.Dense(10)

    def build(self, shape):
        self.offset = self.add_weight(shape=(64,), initializer=keras.initializers.RandomNormal(seed=5), name="offset")
        self.first.build(shape)
        self.last.build((shape[0], self.units))

    def call(self, x):
        return self.last(self.first(x + self.offset))

    def get_config(self):
        return {"units": self.units}


def own():
    model = Own(12)
    model(X[:2])
    return model


def attention():
    inputs = keras.Input((8, 8))
    x = keras.layers.MultiHeadAttention(2, 4, kernel_initializer=GLOROT(seed=1))(inputs, inputs)
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling1D()(keras.layers.GRU(4, return_sequences=True)(x))))


MAKERS = {"functional": functional, "sequential": sequential, "own": own, "attention": attention}


def kernels(model):
    return [np.array(weight) for weight in model.get_weights() if np.ptp(weight) > 0]


@pytest.mark.parametrize("kind", MAKERS)
def test_other_weights_by_the_seed_alone(kind):
    keras.utils.set_random_seed(0)
    given = MAKERS[kind]()
    given.set_weights([weight + 0.25 for weight in given.get_weights()])
    before = given.get_weights()
    keras.utils.set_random_seed(1)
    first = renew(given, 4)
    keras.utils.set_random_seed(2)
    again, other = renew(given, 4), renew(given, 5)
    assert type(first) is type(given) and not first.compiled
    assert [weight.path for weight in first.weights] == [weight.path for weight in given.weights]
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    fresh = MAKERS[kind]().get_weights()
    for old, new, different, scale in zip(before, first.get_weights(), other.get_weights(), fresh, strict=True):
        assert not np.array_equal(old, new)
        if np.ptp(scale) > 0:
            assert not np.array_equal(new, different)
            assert 0.5 < new.std() / scale.std() < 2
        else:  # biases, moving statistics, scales of normalization
            np.testing.assert_array_equal(new, scale)
    for old, now in zip(before, given.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)


def test_layers_with_one_fixed_seed_get_a_seed_each():
    given = sequential()
    made = renew(given, 0)
    dense = [layer for layer in made.layers if layer.name.startswith("fixed")]
    assert not np.allclose(dense[0].kernel[:16], dense[1].kernel[:16])
    seeds = {layer.get_config()["kernel_initializer"]["config"]["seed"] for layer in dense}
    assert len(seeds) == 2 and 3 not in seeds
    assert given.layers[0].kernel_initializer.seed == 3
    heads = [part.kernel for part in renew(attention(), 0).layers[1]._flatten_layers(include_self=False) if hasattr(part, "kernel")]
    assert not np.allclose(heads[0], heads[1])


def test_kdfuses_own_models_are_renewed():
    class Shape:
        input_shape, task, classes = (8, 8, 1), "classification", 10

    given = convnet(Shape(), filters=(4,), seed=0)
    made = renew(given, 1)
    for old, new in zip(kernels(given), kernels(made), strict=True):
        assert np.abs(old - new).max() > 1e-3


def test_what_was_learnt_by_adapting_and_what_is_frozen_stays():
    normal = keras.layers.Normalization()
    normal.adapt(X)
    frozen = keras.layers.Dense(16, name="frozen", trainable=False)
    given = keras.Sequential([keras.Input((64,)), normal, frozen, keras.layers.Dense(10, name="head")])
    made = renew(given, 0)
    np.testing.assert_array_equal(made.layers[0](X[:3]), normal(X[:3]))
    np.testing.assert_array_equal(made.get_layer("frozen").kernel, frozen.kernel)
    assert not np.array_equal(made.get_layer("head").kernel, given.get_layer("head").kernel)
    words = keras.layers.TextVectorization(output_mode="multi_hot")
    words.adapt(["a good film", "a bad film"])
    text = keras.Sequential([keras.Input((), dtype="string"), words, keras.layers.Dense(2)])
    made = renew(text, 0)
    assert made.layers[0].get_vocabulary() == words.get_vocabulary()
    assert not np.array_equal(made.layers[1].kernel, text.layers[1].kernel)
    lookup = keras.layers.StringLookup()
    lookup.adapt(["x", "y"])
    table = keras.Sequential([keras.Input((1,), dtype="string"), lookup, keras.layers.Embedding(3, 4)])
    assert renew(table, 0).layers[0].get_vocabulary() == lookup.get_vocabulary()


def test_a_models_own_random_source_and_the_callers_are_left_alone():
    def mine(shape, dtype=None):
        return keras.random.normal(shape, dtype=dtype)

    keras.utils.set_random_seed(0)
    given = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, kernel_initializer=mine)])
    expected = np.asarray(keras.random.normal((3,)))
    keras.utils.set_random_seed(0)
    keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, kernel_initializer=mine)])
    one, two, other = (renew(given, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(np.asarray(keras.random.normal((3,))), expected)
    np.testing.assert_array_equal(one.layers[0].kernel, two.layers[0].kernel)
    assert not np.array_equal(one.layers[0].kernel, other.layers[0].kernel)


def test_other_threads_make_their_models_as_ever(monkeypatch):
    from kdfuse.graph import renew as module

    made = []

    def elsewhere(model, example):
        thread = threading.Thread(target=lambda: made.append(sequential().layers[0].kernel.numpy()))
        thread.start()
        thread.join()
        return copy(model, example)

    copy = module.copy_model
    monkeypatch.setattr(module, "copy_model", elsewhere)
    renew(sequential(), 0)
    np.testing.assert_array_equal(made[0], sequential().layers[0].kernel)


def test_an_unbuilt_model_needs_an_example():
    given = keras.Sequential([keras.layers.Dense(10, kernel_initializer=GLOROT(seed=1))])
    with pytest.raises(ValueError, match="`example`: .* is not built"):
        renew(given, 0)
    one, two = renew(given, 0, X[:2]), renew(given, 1, X[:2])
    assert not given.built and not np.array_equal(one.layers[0].kernel, two.layers[0].kernel)
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match="`seed`: expected an integer"):
            renew(one, wrong)
    one.trainable = False
    with pytest.raises(ValueError, match="`model`: .* has no trainable weights"):
        renew(one, 0)
    with pytest.raises(ValueError, match=r"`model`: expected a keras.Model"):
        renew("net.keras", 0)
