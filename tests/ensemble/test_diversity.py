"""Diversity by hand."""

import numpy as np
import pytest

from kdfuse.ensemble.diversity import disagreements, diversity, error_correlation

DECIDED = np.array([[0, 1, 2, 2], [0, 1, 0, 2], [1, 1, 2, 0]])
LABELS = np.array([0, 1, 2, 1])


def test_pairs_that_differ_and_pairs_that_are_wrong_together():
    found = diversity(DECIDED == LABELS, DECIDED)
    assert found["ensemble/disagreement"] == pytest.approx((1 / 4 + 2 / 4 + 3 / 4) / 3)
    assert found["ensemble/double_fault"] == pytest.approx((1 / 4 + 1 / 4 + 1 / 4) / 3)
    assert found["ensemble/oracle"] == pytest.approx(3 / 4)


def test_the_table_is_symmetric_with_a_diagonal_of_zeros():
    rows = disagreements(["a", "b", "c"], DECIDED)
    table = np.array([[row[name] for name in "abc"] for row in rows])
    np.testing.assert_allclose(table, [[0, 0.25, 0.5], [0.25, 0, 0.75], [0.5, 0.75, 0]])
    assert [row["model"] for row in rows] == ["a", "b", "c"]


def test_errors_of_regressions_are_correlated():
    errors = np.array([[1.0, -1.0, 2.0, 0.0], [2.0, -2.0, 4.0, 0.0], [-1.0, 1.0, -2.0, 0.0]])
    assert error_correlation(errors)["ensemble/error_correlation"] == pytest.approx((1 - 1 - 1) / 3)
    assert error_correlation(np.ones((2, 4))) == {}
