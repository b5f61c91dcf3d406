import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.export.signature import clean, in_float32, match_inputs, named_outputs, restore_outputs, trace

layers = keras.layers


def two_inputs(kind):
    a, b = keras.Input((4,), name="zeta"), keras.Input((3,), name="alpha 1")
    joined = layers.Concatenate()([a, b])
    outputs = layers.Dense(2)(joined)
    return keras.Model([a, b] if kind is list else {"zeta": a, "alpha 1": b}, outputs)


@pytest.mark.parametrize("kind", [list, dict])
def test_inputs_keep_their_names_and_the_order_of_the_model(kind):
    model = two_inputs(kind)
    traced = trace(model)
    assert traced.inputs == (["zeta", "alpha_1"] if kind is list else ["alpha_1", "zeta"])
    a, b = np.random.default_rng(0).random((5, 4), "float32"), np.random.default_rng(1).random((5, 3), "float32")
    given = [a, b] if kind is list else {"zeta": a, "alpha 1": b}
    found = traced.function(*map(tf.constant, match_inputs(given, traced.inputs)))
    np.testing.assert_allclose(found["output_0"], model(given), atol=1e-6)


def test_only_variables_in_use_are_held():
    model = two_inputs(list)
    assert len(trace(model).module.held) == len(model.weights)


def test_a_subclassed_model_needs_an_example_and_its_rows_stay_open():
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Own()
    with pytest.raises(ValueError, match="`model`: 'own' does not say what it takes.*`example`"):
        trace(model)
    traced = trace(model, np.zeros((2, 3), "float32"))
    assert traced.function(tf.zeros((7, 3)))["output_0"].shape == (7, 2)


def test_a_batch_size_is_fixed_once():
    assert trace(two_inputs(list), batch_size=3).function.structured_outputs["output_0"].shape[0] == 3
    fixed = keras.Sequential([keras.Input(batch_shape=(2, 4), name="x"), layers.Dense(1)], name="fixed")
    with pytest.raises(ValueError, match="`batch_size`: the model 'fixed' fixes its batch at 2 rows. Received: 3"):
        trace(fixed, batch_size=3)


@pytest.mark.parametrize("outputs", [[1, 2, 3], list(range(12)), {"y": 1, "a": 2}])
def test_outputs_come_back_in_their_structure(outputs):
    named = named_outputs(outputs)
    assert restore_outputs(dict(sorted(named.items()))) == outputs
    assert restore_outputs(named_outputs(5)) == 5 and restore_outputs(named_outputs([5])) == 5


def test_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match=r"keys \['a', 'b'\]. Received: \['a', 'c'\]"):
        match_inputs({"a": 1, "c": 2}, ["a", "b"])
    with pytest.raises(ValueError, match="expected 2 arrays.*Received: 1"):
        match_inputs([1], ["a", "b"])
    assert match_inputs({"only": 5}, ["x"]) == [5]
    assert clean("a b/c:0") == "a_b_c_0" and clean("0") == "input_0"


def test_mixed_precision_becomes_a_copy_in_float32():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, dtype="mixed_float16"), layers.Dense(2, dtype="mixed_float16")])
    twin = in_float32(model)
    x = np.random.default_rng(0).random((5, 3), "float32")
    assert twin(x).dtype == "float32" and model(x).dtype == "float16"
    np.testing.assert_allclose(twin(x), model(x), atol=5e-3)
    plain = two_inputs(list)
    assert in_float32(plain) is plain


def test_a_dict_whose_keys_look_like_places_stays_a_dict():
    named = {"output_0": 1, "output_2": 2, "output_10": 3}
    assert restore_outputs(named) == named
    assert restore_outputs({"output_1": 2, "output_0": 1}) == [1, 2]
