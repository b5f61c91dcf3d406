import keras
import numpy as np
import pytest

from kdfuse.graph.final import finals
from kdfuse.graph.heads import detect_head

layers = keras.layers


def ended_by(*last):
    return keras.Sequential([keras.Input((4,)), layers.Dense(3), *last])


@pytest.mark.parametrize(
    ("layer", "activation", "removable"),
    [
        (lambda: layers.Dense(2, activation="softmax"), "softmax", True),
        (lambda: layers.Dense(2, activation="sigmoid"), "sigmoid", True),
        (lambda: layers.Activation("log_softmax"), "log_softmax", False),
        (lambda: layers.Softmax(), "softmax", True),
        (lambda: layers.Softmax(axis=1), None, False),
        (lambda: layers.Dense(2), "linear", False),
        (lambda: layers.Dense(2, activation="tanh"), None, False),
        (lambda: layers.LayerNormalization(), None, False),
        (lambda: keras.Sequential([layers.Dense(2, activation="softmax"), layers.Identity()]), "softmax", True),
    ],
)
def test_last_layers(layer, activation, removable):
    (end,) = finals(ended_by(layer()))
    assert (end.activation, end.removable) == (activation, removable)


def test_a_subclass_of_a_layer_may_do_more():
    class Own(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2

    (end,) = finals(ended_by(Own(2, activation="softmax")))
    assert end.activation is None and not end.removable


def test_order_is_that_of_the_flattened_outputs():
    inputs = keras.Input((4,))
    made = {"b": layers.Dense(2, activation="softmax", name="b")(inputs), "a": layers.Dense(2, name="a")(inputs)}
    assert [end.layer.name for end in finals(keras.Model(inputs, made))] == ["a", "b"]


def test_a_model_with_a_call_of_its_own_is_watched():
    class Own(keras.Model):
        def call(self, inputs):
            return super().call(inputs) * 2

    inputs = keras.Input((4,))
    model = Own(inputs, layers.Dense(2, activation="softmax")(inputs))
    assert finals(model) is None
    (end,) = finals(model, np.ones((2, 4), "float32"))
    assert end.layer is None and not end.removable


def test_a_subclassed_model_with_several_outputs_keeps_its_activations():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2, activation="softmax")

        def call(self, inputs):
            p = self.dense(inputs)
            return p, keras.ops.log(p)

    first, second = finals(Two(), np.ones((2, 4), "float32"))
    assert first.activation == "softmax" and not first.removable and second.layer is None


def test_a_layer_may_say_that_it_gives_logits():
    class Own(layers.Layer):
        def call(self, inputs):
            return keras.ops.clip(inputs, 0.1, 0.9)

    class Logits(Own):
        gives = "logits"

    class Probabilities(Own):
        gives = "probabilities"

    found = [finals(ended_by(make()))[0].activation for make in (Own, Logits, Probabilities)]
    assert found == [None, "linear", None]
    x = np.ones((4, 4), "float32")
    assert [detect_head(ended_by(make()), "classification", x) for make in (Own, Logits)] == ["sigmoid", "logits"]
