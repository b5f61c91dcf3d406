import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.calls import check_call, check_inputs

layers = keras.layers
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.random((12, 8, 8, 1), "float32"), np.arange(12) % 3
DATA = kf.Data(train=(X, Y), validation=(X, Y))


def net(*shapes, name="net"):
    inputs = [keras.Input(shape) for shape in shapes]
    flat = [layers.Flatten()(one) for one in inputs]
    outputs = layers.Dense(3)(flat[0] if len(flat) == 1 else layers.Concatenate()(flat))
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=name)


class Own(keras.Model):
    def __init__(self, features):
        super().__init__(name="own")
        self.dense, self.features, self.calls = layers.Dense(3), features, 0

    def call(self, inputs):
        self.calls += 1
        return self.dense(keras.ops.reshape(inputs, (-1, self.features)))


def test_what_is_no_model_or_no_data_raises_with_the_mend():
    for model, data, words in ((keras.Model, DATA, "Call it first"), ("m.keras", DATA, "Received"), (net((8, 8, 1)), {"x": 1}, "Wrap it")):
        with pytest.raises(TypeError, match=words):
            check_call("Train", model, data)


@pytest.mark.parametrize(
    ("shapes", "takes"),
    [
        ([(64,)], r"of shape \(64,\)\."),
        ([(8, 8, 3)], r"of shape \(8, 8, 3\)\."),
        ([(8, 8, 1), (8, 8, 1)], r"of shape \[\(8, 8, 1\), \(8, 8, 1\)\]\."),
    ],
    ids=["flat", "channels", "two inputs"],
)
@pytest.mark.parametrize(
    "call",
    [kf.Train(epochs=1), kf.Prune(0.5), kf.Quantize(), kf.RandomSearch(kf.Prune(0.9), {"sparsity": [0.5]}, n_trials=1), kf.evaluate],
    ids=["train", "prune", "quantize", "search", "evaluate"],
)
def test_inputs_that_do_not_fit_are_refused_before_anything_is_trained(shapes, takes, call):
    said = rf"expected a model that takes the inputs of `data`, of shape \(8, 8, 1\). Received: 'net', which takes inputs {takes}"
    with pytest.raises(ValueError, match=said):
        call(net(*shapes), DATA)


def test_a_model_without_declared_inputs_is_tried():
    fits, not_so = Own(64), Own(63)
    fits(DATA.example(2))
    not_so(np.zeros((2, 63), "float32"))
    check_inputs("Train", fits, DATA)
    with pytest.raises(ValueError, match=r"'own', which takes others \(\w+: "):
        check_inputs("Train", not_so, DATA)


def test_what_fits_is_not_run_and_what_keras_makes_fit_passes():
    counted = Own(64)
    counted(DATA.example(2))
    whole = keras.Sequential([keras.Input((8, None, 1)), counted])
    before = counted.calls
    check_inputs("Train", whole, DATA)
    assert counted.calls == before
    check_inputs("Train", net((8, 8)), DATA)  # Keras drops a last axis of one
    unbuilt = Own(63)
    check_inputs("Train", unbuilt, DATA)
    assert not unbuilt.built
