"""Decisions and reliability against a computation by hand."""

import numpy as np
import pytest

from kdfuse.measure.calibration import judged, reliability
from kdfuse.measure.measure import Part
from kdfuse.measure.quality import calibration_error

CHANCES = np.array([[0.9, 0.1], [0.58, 0.42], [0.3, 0.7], [0.55, 0.45]], "float32")
LABELS = np.array([0, 1, 1, 0])


def test_classes_are_judged_by_the_likeliest():
    found = judged(Part("", CHANCES, LABELS, None, "classification", "softmax"))
    np.testing.assert_array_equal(found.decided, [0, 0, 1, 0])
    np.testing.assert_array_equal(found.right, [True, False, True, True])
    np.testing.assert_allclose(found.confidence, [0.9, 0.58, 0.7, 0.55], rtol=1e-6)


def test_one_column_and_cells_are_judged_as_yes_and_no():
    one = judged(Part("", np.array([[2.0], [-1.0]]), np.array([1, 1]), None, "binary", "logits"))
    np.testing.assert_array_equal(one.decided, [1, 0])
    np.testing.assert_allclose(one.confidence, [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))], rtol=1e-6)
    cells = judged(Part("", np.array([[0.9, 0.2], [0.1, 0.6]]), np.array([[1, 1], [0, 1]]), np.array([1.0, 3.0]), "multilabel", "sigmoid"))
    np.testing.assert_array_equal(cells.right, [True, False, True, True])
    np.testing.assert_array_equal(cells.weights, [1, 1, 3, 3])
    assert judged(Part("", np.zeros((3, 1)), np.zeros(3), None, "regression", "regression")) is None


@pytest.mark.parametrize("weights", [None, np.array([1.0, 2.0, 3.0, 4.0])])
def test_the_bins_of_the_diagram_give_the_calibration_error(weights):
    found = judged(Part("", CHANCES, LABELS, weights, "classification", "softmax"))
    rows = reliability(found)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    gap = sum(row["share"] * abs(row["accuracy"] - row["confidence"]) for row in rows)
    assert gap == pytest.approx(calibration_error(found.confidence, found.right, weights))
    assert len(rows) == 3 and rows[0]["accuracy"] == pytest.approx(0.5 if weights is None else 4 / 6)
