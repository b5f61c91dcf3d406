import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from kdfuse.export.edge_quantizer import calibrate, requantize, weighted_operations
from kdfuse.export.lite_weights import _nibbles, stored_weights
from kdfuse.export.litert import to_litert

layers = keras.layers


def test_integers_are_those_of_the_file():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(5)])
    x = np.random.default_rng(0).random((8, 8, 8, 1), "float32")
    data = to_litert(model, quantize="int8", representative=x)
    interpreter = Interpreter(model_content=data, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    theirs = [interpreter.get_tensor(one["index"]) for one in interpreter.get_tensor_details()
              if one["dtype"] == np.int8 and len(one["quantization_parameters"]["scales"]) > 1]  # fmt: skip
    found = stored_weights(data)
    assert {bits for bits, _ in found} == {8} and len(found) == len(theirs) == 2
    for (_, one), other in zip(found, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert stored_weights(to_litert(model)) == []


def test_four_bits_are_unpacked():
    np.testing.assert_array_equal(_nibbles(np.array([0x1F, 0x87], np.uint8)), [-1, 1, 7, -8])
    model = keras.Sequential([keras.Input((40,)), layers.Dense(33)])
    kernel = model.layers[0].kernel.numpy()
    data = to_litert(model)
    (one,) = weighted_operations(data)
    ranges = calibrate(data, np.ones((1, 40), "float32"))
    ((bits, found),) = stored_weights(requantize(data, {one.outputs[0].name: 4}, ranges))
    assert bits == 4
    expected = np.round(kernel.T / (np.abs(kernel.T).max(axis=1, keepdims=True) / 7))
    assert (found == expected).mean() > 0.99
