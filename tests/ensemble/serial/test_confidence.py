"""Confidence by its definitions."""

import numpy as np
import pytest

from kdfuse.ensemble.serial.confidence import MEASURES, confidence

P = np.array([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]], "float32")
ENTROPY = -(np.where(P > 0, P * np.log(np.maximum(P, 1e-9)), 0)).sum(-1)


@pytest.mark.parametrize(
    ("measure", "want"), [("max_probability", [0.7, 1 / 3, 1.0]), ("margin", [0.5, 0.0, 1.0]), ("entropy", 1 - ENTROPY / np.log(3))]
)
def test_classes(measure, want):
    np.testing.assert_allclose(MEASURES[measure](P), want, atol=1e-6)
    np.testing.assert_allclose(confidence(measure, [P], ["softmax"]), want, atol=1e-6)


def test_columns_and_several_outputs_are_as_sure_as_the_least_sure():
    q = np.array([[0.9, 0.4], [0.1, 0.05], [0.5, 1.0]], "float32")
    np.testing.assert_allclose(confidence("max_probability", [q], ["sigmoid"]), [0.6, 0.9, 0.5], atol=1e-6)
    np.testing.assert_allclose(confidence("max_probability", [P, q], ["softmax", "sigmoid"]), [0.6, 1 / 3, 0.5], atol=1e-6)
