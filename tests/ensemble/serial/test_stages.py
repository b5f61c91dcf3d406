"""What the stages of a cascade do with rows."""

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.ensemble.predictions import Predicted
from kdfuse.ensemble.serial.stages import Costs, budget_of, costs_of, told, watch
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
    assert costs_of(nets, data) == ([6 * 2 + 2 * 3, 6 * 4 + 4 * 3], 6 * 4 + 4 * 3, "macs")
    assert costs_of(nets, whole=nets[0]).whole == 18
    plain = keras.Sequential([keras.Input((6,)), L.Embedding(10, 3), L.GlobalAveragePooling1D()])
    assert costs_of([plain, nets[0]], data) == ([30.0, 14.0 + 9.0], 23.0, "parameters")


def test_a_budget_is_a_share_that_the_first_stage_fits_in():
    costs = Costs([1.0, 4.0], 4.0, "macs")
    assert budget_of(None, costs) is None and budget_of(0.5, costs) == 2.0
    with pytest.raises(ValueError, match="`cost`: expected at least 0.25, the share of the first stage alone. Received: 0.2"):
        budget_of(0.2, costs)


def test_the_tables_of_a_result():
    result, stages, costs = Result(None), watch([ONE], "max_probability", [1.0, 4.0]), Costs([1.0, 4.0], 4.0, "macs")
    other = watch([ONE._replace(weights=None)], "max_probability", costs.each)
    told(result, {"validation": other, "test": stages}, (0.7,), [[2.0], [1.0]], ["a", "b"], costs)
    shares = {"cascade/exit_1": 0.75, "cascade/exit_2": 0.25, "cascade/asked": 0.25}
    assert result.metrics == {**shares, "cost/macs": 1 + 0.25 * 4, "cascade/macs_share": 0.5}
    assert result.tables["stages"] == [
        {"stage": 1, "model": "a", "macs": 1.0, "threshold": 0.7, "temperature": 2.0, "leave on validation": 0.5, "leave on test": 0.75,
         "right of them": 0.0},
        {"stage": 2, "model": "b", "macs": 4.0, "temperature": 1.0, "leave on validation": 0.5, "leave on test": 0.25,
         "right of them": 1.0},
    ]  # fmt: skip
    points = result.tables["thresholds"]
    assert points[-1] == {"threshold": 0.7, "accuracy": 0.5, "macs": 3.0, "chosen": True} and len(points) <= 50
    empty = Result(None)
    told(empty, {}, (0.7,), None, ["a", "b"], costs)
    assert not empty.metrics and not empty.tables


def test_parameters_are_not_told_as_macs():
    result, stages = Result(None), watch([ONE], "margin", [1.0, 4.0])
    told(result, {"validation": stages}, (0.7,), None, ["a", "b"], Costs([1.0, 4.0], 4.0, "parameters"))
    assert "cost/macs" not in result.metrics and "cascade/macs_share" not in result.metrics and "cascade/exit_2" in result.metrics
    assert result.tables["stages"][0]["parameters"] == 1 and "parameters" in result.tables["thresholds"][0]
    assert any("costs are parameters" in note for note in result.notes) and not any("cost/macs is" in note for note in result.notes)
