import keras
import numpy as np
import pytest

from kdfuse.graph.trace import layer_calls, watching


def test_calls_come_inner_first_with_their_parents():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")], name="inner")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.add(inner(inputs), 1.0), name="outer")
    x = np.ones((4, 3), "float32")
    outputs, calls = layer_calls(model, x)
    names = [getattr(call.layer, "name", "") for call in calls]
    assert names.index("dense") < names.index("inner") < names.index("outer") and any("add" in name for name in names)
    by_name = dict(zip(names, calls, strict=True))
    assert by_name["outer"].parent is None and by_name["inner"].parent is by_name["outer"]
    assert by_name["dense"].outputs is by_name["inner"].outputs
    np.testing.assert_array_equal(outputs, model(x))


def test_a_shared_layer_is_recorded_at_each_call():
    dense = keras.layers.Dense(3)
    inputs = keras.Input((3,))
    _, calls = layer_calls(keras.Model(inputs, dense(dense(inputs))), np.ones((1, 3), "float32"))
    assert sum(call.layer is dense for call in calls) == 2


def test_nothing_is_left_behind_whatever_happens():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(RuntimeError, match="on purpose"), watching(model):
        raise RuntimeError("on purpose")
    assert not any("call" in vars(part) for part in model._flatten_layers())


def test_an_unbuilt_model_is_built_first():
    model = keras.Sequential([keras.layers.Dense(2)])
    outputs, calls = layer_calls(model, np.ones((4, 3), "float32"))
    assert outputs.shape == (4, 2) and any(isinstance(call.layer, keras.layers.Dense) for call in calls)
