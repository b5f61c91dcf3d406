"""What the stages of a cascade do with rows."""

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.predictions import Predicted
from kdfuse.ensemble.serial.stages import costs_of, told, watch
from kdfuse.technique import Result

L = keras.layers
P = np.array([[[0.6, 0.4], [0.2, 0.8]], [[0.9, 0.1], [0.3, 0.7]]])
ONE = Predicted("", P, np.array([0, 0]), np.array([1.0, 3.0]), "classification", "softmax")


def test_confidence_and_accuracy_of_every_stage():
    stages = watch([ONE], "max_probability", [1.0, 4.0])
    np.testing.assert_allclose(stages.sure, [[0.6, 0.8], [0.9, 0.7]], rtol=1e-6)
    np.testing.assert_array_equal(stages.right, [[1, 0], [1, 0]])
    np.testing.assert_array_equal(stages.weights, [1, 3])


def test_of_several_outputs_a_row_is_right_in_part():
    other = Predicted("b", P[..., 1:], np.array([[1], [1]]), None, "binary", "sigmoid")
    stages = watch([ONE, other], "max_probability", [1.0, 4.0])
    np.testing.assert_array_equal(stages.right, [[0.5, 0.5], [0.5, 0.5]])


def test_costs_are_macs_or_where_there_are_none_parameters():
    data = Data(train=(np.ones((9, 6), "float32"), np.arange(9) % 3))
    nets = [keras.Sequential([keras.Input((6,)), L.Dense(units), L.Dense(3)]) for units in (2, 4)]
    assert costs_of(nets, data) == [6 * 2 + 2 * 3, 6 * 4 + 4 * 3]
    plain = keras.Sequential([keras.Input((6,)), L.Embedding(10, 3), L.GlobalAveragePooling1D()])
    assert costs_of([plain, nets[0]], data) == [30.0, 14.0 + 9.0]


def test_the_tables_of_a_result():
    result, stages = Result(None), watch([ONE], "max_probability", [4.0, 1.0])
    told(result, {"validation": stages, "test": stages}, (0.7,), [[2.0], [1.0]], ["a", "b"])
    assert result.metrics == {"cost/macs": 4.0 + 0.25, "cascade/macs_share": 4.25, "cascade/asked": 0.25}
    first, last = result.tables["stages"]
    assert first["threshold"] == 0.7 and "threshold" not in last and first["temperature"] == 2.0 and first["leave on test"] == 0.75
    assert any("do not get dearer" in note for note in result.notes)
    empty = Result(None)
    told(empty, {}, (0.7,), None, ["a", "b"])
    assert not empty.metrics and not empty.tables
