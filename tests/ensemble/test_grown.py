"""What all have in common that grow their members themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.ensemble.grown import Grown, at_place, born, check_count, need_arrays, seed_of, seeds_of
from kdfuse.settings import settings
from kdfuse.train import Train

X, Y = np.random.default_rng(0).normal(size=(30, 4)).astype("float32"), np.arange(30) % 3
DATA = Data(train=(X, Y))


def net():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def test_new_weights_are_a_function_of_seed_and_place():
    given = net()
    before = given.get_weights()
    kernels = [born(given, DATA, seed, place).get_weights()[0] for seed, place in ((0, 0), (0, 0), (0, 1), (1, 0))]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not any(np.allclose(kernels[0], other) for other in (before[0], *kernels[2:]))
    np.testing.assert_array_equal(given.get_weights()[0], before[0])


def test_every_seed_of_a_training_moves_with_the_place():
    train = Train(seed=3)
    assert len({at_place(train, place).seed for place in range(3)}) == 3 and at_place(train, 1).seed == at_place(train, 1).seed
    taught = Distill(net(), training=train)
    assert seeds_of(taught) == ["training__seed"] and seed_of(taught) == 3 and at_place(taught, 1).training.seed != 3


def test_one_model_is_taken_and_the_training_checked():
    @settings
    class Some(Grown):
        training: Train = Train()

    with pytest.raises(TypeError, match="`model` of Some: expected a keras.Model"):
        Some()([net(), net()], DATA)
    wrong = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError):
        Some()(wrong, DATA)


def test_arrays_and_counts():
    assert len(need_arrays("Some", DATA, "x")) == 30
    stream = Data(train=tf.data.Dataset.from_tensor_slices((X, Y)).batch(5))
    with pytest.raises(ValueError, match="`data` of Some: expected arrays in the training split, for rows are drawn. Received: a stream"):
        need_arrays("Some", stream, "rows are drawn")
    for wrong in (1, 2.0, True):
        with pytest.raises(ValueError, match="`members`: expected an integer of at least 2"):
            check_count("members", wrong, 2)
