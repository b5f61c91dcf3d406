import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from kdfuse.export.lite_model import LiteModel
from kdfuse.export.lite_order import in_order
from kdfuse.export.litert import to_litert

layers = keras.layers
INPUTS, OUTPUTS = ["zeta", "alpha", "mu"], ["output_0", "output_1", "output_2"]


@pytest.fixture(scope="module")
def model():
    inputs = [keras.Input((4,), name=name) for name in INPUTS]
    return keras.Model(inputs, [layers.Dense(units)(one) for units, one in enumerate(inputs, 1)])


def listed(data):
    interpreter = Interpreter(model_content=data)
    return (
        [detail["name"].removeprefix("serving_default_").removesuffix(":0") for detail in interpreter.get_input_details()],
        [int(detail["shape"][-1]) for detail in interpreter.get_output_details()],
    )


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_the_lists_are_in_the_order_given_and_the_values_as_before(model, order):
    data = to_litert(model)
    assert listed(data) == (INPUTS, [1, 2, 3])
    other = in_order(data, [INPUTS[place] for place in order], [OUTPUTS[place] for place in order])
    assert listed(other) == ([INPUTS[place] for place in order], [place + 1 for place in order])
    assert len(other) == len(data)
    x = list(np.random.default_rng(0).random((3, 5, 4), "float32"))
    named = dict(zip(INPUTS, x, strict=True))
    for one, two, expected in zip(LiteModel(data)(x), LiteModel(other)(named), model(x), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, expected, atol=1e-6)


def test_one_tensor_under_two_names():
    inputs = [keras.Input((4,), name=name) for name in "ba"]
    y = layers.Dense(2)(inputs[0])
    model = keras.Model(inputs, [y, layers.Dense(3)(inputs[1]), y])
    x = list(np.random.default_rng(0).random((2, 5, 4), "float32"))
    for one, expected in zip(LiteModel(to_litert(model))(x), model(x), strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-6)


def test_other_names_are_refused(model):
    with pytest.raises(ValueError, match=r"expected the names \['b'\] in the file's signature. Received: \['alpha', 'mu', 'zeta'\]"):
        in_order(to_litert(model), ["b"], OUTPUTS)
