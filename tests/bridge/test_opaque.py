"""A Keras 3 layer inside a tf_keras model: exact, trained, counted once."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.bridge.imports import guests
from kdfuse.bridge.opaque import Held, Slot, opaque
from kdfuse.bridge.to_tf_keras import to_tf_keras


class Scaled(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs * self.scale + (1.0 if training else 0.0)


def net() -> keras.Model:
    given = keras.Input((4,))
    return keras.Model(given, keras.layers.Dense(2)(Scaled(name="scaled")(keras.layers.Dense(3)(given))))


def test_it_is_exact_shares_its_variables_and_hears_of_training() -> None:
    model = net()
    bridged = to_tf_keras(model, opaque=("scaled",))
    assert bridged.difference <= 1e-6 and bridged.opaque == ("scaled",) and bridged.parameters == model.count_params()
    x = np.ones((2, 4), "float32")
    before = bridged.model(x, training=False)
    model.get_layer("scaled").scale.assign([2.0, 3.0, 4.0])
    assert not np.allclose(before, bridged.model(x, training=False))
    assert np.allclose(model(x, training=False), bridged.model(x, training=False), atol=1e-6)
    assert np.allclose(model(x, training=True), bridged.model(x, training=True), atol=1e-6)


def test_gradients_reach_it() -> None:
    model = net()
    bridged = to_tf_keras(model, opaque="auto")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(bridged.model(tf.ones((2, 4)), training=True) ** 2)
    assert len(bridged.model.trainable_weights) == 5
    assert all(gradient is not None for gradient in tape.gradient(loss, bridged.model.trainable_weights))


def test_a_copy_of_the_model_runs_the_same_layer() -> None:
    bridged = to_tf_keras(net(), opaque="auto")
    made = guests().tf_keras.models.clone_model(bridged.model)
    made.set_weights(bridged.model.get_weights())
    x = np.ones((1, 4), "float32")
    assert np.array_equal(made(x), bridged.model(x)) and made.count_params() == bridged.model.count_params()


def test_tensors_are_told_from_fixed_arguments() -> None:
    layer, tensors = opaque(keras.layers.Flatten(), (tf.ones((2, 3)),), {}, tf.is_tensor, "flatten")
    assert len(tensors) == 1 and isinstance(layer.held.args[0], Slot)
    held = Held(keras.layers.Dense(2), (Slot(0),), {})
    assert held.__deepcopy__({}) is held and held.run([tf.ones((1, 3))], training=False).shape == (1, 2)
