"""BatchNorm statistics measured again: against NumPy over all rows, and what must stay as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.fitting.batch_norm import batch_norms, batches, reestimate

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (300, 5)).astype("float32")
Y = RNG.integers(0, 2, 300)
DATA = Data(train=(X, Y))


def net(**given):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.BatchNormalization(name="first"), keras.layers.Dropout(0.5), keras.layers.Dense(4, "relu", name="dense")]
    layers += [keras.layers.BatchNormalization(name="second", **given), keras.layers.Dense(2, name="head")]
    return keras.Sequential([keras.Input((5,)), *layers])


def values(model):
    return [weight.copy() for weight in model.get_weights()]


def test_the_first_layer_gets_the_mean_and_variance_of_all_rows():
    model = net()
    before = values(model)
    assert reestimate(model, DATA, rows=300) == 2
    first, second = model.get_layer("first"), model.get_layer("second")
    np.testing.assert_allclose(first.moving_mean, X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(first.moving_variance, X.var(0), rtol=1e-4)
    hidden = np.maximum((X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3) @ model.get_layer("dense").kernel, 0)
    np.testing.assert_allclose(second.moving_mean, hidden.mean(0), atol=0.05)  # the first layer normalised batch by batch
    assert first.momentum == 0.99 and "call" not in vars(first)
    changed = [not np.array_equal(a, b) for a, b in zip(before, values(model), strict=True)]
    assert changed == [weight.path.rsplit("/", 1)[-1].startswith("moving") for weight in model.weights]


def test_a_second_time_gives_the_same_and_the_draw_follows_the_seed():
    model, twin, other = net(), net(), net()
    for one, seed in ((model, 0), (twin, 0), (other, 1)):
        reestimate(one, DATA, rows=40, seed=seed)
    assert np.array_equal(model.get_layer("first").moving_mean, twin.get_layer("first").moving_mean)
    assert not np.array_equal(model.get_layer("first").moving_mean, other.get_layer("first").moving_mean)


def test_frozen_layers_and_models_without_any_stay_as_they_are():
    model = net()
    model.get_layer("second").trainable = False
    before = model.get_layer("second").get_weights()
    assert reestimate(model, DATA) == 1 and [layer.name for layer in batch_norms(model)] == ["first"]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_layer("second").get_weights(), strict=True))
    assert reestimate(keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]), DATA) == 0


def test_renorm_keeps_its_other_statistics():
    model = net(renorm=True)
    layer = model.get_layer("second")
    kept = [layer.renorm_mean.numpy(), layer.renorm_stddev.numpy()]
    reestimate(model, DATA)
    assert np.array_equal(kept, [layer.renorm_mean.numpy(), layer.renorm_stddev.numpy()])
    assert not np.array_equal(layer.moving_mean, np.zeros(4))


def test_streams_give_their_first_rows_and_no_batch_has_one_row():
    stream = Data(train=tf.data.Dataset.from_tensor_slices((X, Y)).batch(50))
    assert [len(x) for x in batches(stream, 80, 128)] == [50, 50]
    assert [len(x) for x in batches(DATA, 129, 128)] == [65, 64]
    model = net()
    reestimate(model, stream, rows=100)
    np.testing.assert_allclose(model.get_layer("first").moving_mean, X[:100].mean(0), rtol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 2.5, True])
def test_rows_that_make_no_sense_raise(rows):
    with pytest.raises(ValueError, match="`rows`: expected an integer of at least 2"):
        reestimate(net(), DATA, rows=rows)
