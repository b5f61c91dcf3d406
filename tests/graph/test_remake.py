import keras
import numpy as np
import pytest

from kdfuse.graph.remake import remake

FACTOR = 3.0


def test_same_settings_and_names():
    layer = keras.layers.Bidirectional(keras.layers.LSTM(3, dropout=0.1, name="mine"), merge_mode="sum")
    made = remake(layer)
    assert made is not layer and made.get_config() == layer.get_config()
    assert [part.name for part in made._flatten_layers()] == [part.name for part in layer._flatten_layers()]


def test_lambdas_keep_their_globals_and_closures():
    for shift in (1.0, 2.0):
        made = remake(keras.layers.TimeDistributed(keras.layers.Lambda(lambda x, shift=shift: x * FACTOR + shift)))
        np.testing.assert_array_equal(made(np.ones((1, 2, 2), "float32")), np.full((1, 2, 2), 3 + shift))
    dense = remake(keras.layers.Dense(2, activation=lambda x: x * FACTOR, kernel_initializer="ones"))
    np.testing.assert_array_equal(dense(np.ones((1, 2), "float32")), [[6, 6]])


def test_a_class_registered_again_does_not_take_the_place():
    def make():
        @keras.saving.register_keras_serializable("kdfuse_tests", name="Twice")
        class Twice(keras.layers.Layer):
            pass

        return Twice

    first, _ = make(), make()
    assert type(remake(first())) is first


def test_own_initializers_and_functions_need_no_registration():
    class Threes(keras.initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return keras.ops.full(shape, 3.0, dtype)

    def double(x):
        return x * 2

    made = remake(keras.layers.Dense(1, kernel_initializer=Threes(), activation=double))
    np.testing.assert_array_equal(made(np.ones((1, 2), "float32")), [[12]])


def test_what_cannot_be_made_is_named():
    class Needs(keras.layers.Layer):
        def __init__(self, thing):
            super().__init__()
            self.thing = thing

    with pytest.raises(ValueError, match=r"Needs.*get_config"):
        remake(Needs(object()))
