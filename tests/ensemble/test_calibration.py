"""The table of calibration against scikit-learn and the formula of the error."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from kdfuse.ensemble.calibration import before_and_after, heated
from kdfuse.ensemble.predictions import Predicted
from kdfuse.measure.quality import calibration_error

RNG = np.random.default_rng(0)
LABELS, YES = RNG.integers(0, 3, 80), RNG.integers(0, 2, (80, 1))
Z, COLUMN = 4 * RNG.normal(size=(2, 80, 3)), RNG.normal(size=(2, 80, 1))
WHICH = Predicted("", Z, LABELS, None, "classification", "softmax")


def test_each_member_has_its_temperature():
    np.testing.assert_allclose(heated(WHICH, [2.0, 0.5]).values, [softmax(Z[0] / 2, -1), softmax(Z[1] * 2, -1)])
    sign = Predicted("sign", COLUMN, YES, None, "binary", "sigmoid")
    np.testing.assert_allclose(heated(sign, [2.0, 0.5]).values, [expit(COLUMN[0] / 2), expit(COLUMN[1] * 2)])


def error(chances):
    return calibration_error(chances.max(-1), chances.argmax(-1) == LABELS)


def test_before_and_after_of_each_member_and_of_the_whole():
    answered = np.arange(80) % 2
    rows = before_and_after(["a", "b"], [WHICH], [[3.0], [2.0]], "test", answered, "cascade")
    assert [row["model"] for row in rows] == ["1: a", "2: b", "cascade"]
    assert [row.get("temperature") for row in rows] == [3.0, 2.0, None] and {row["split"] for row in rows} == {"test"}
    before, after = softmax(Z, -1), np.stack([softmax(Z[0] / 3, -1), softmax(Z[1] / 2, -1)])
    for when, chances in (("before", before), ("after", after)):
        every = [*chances, chances[answered, np.arange(80)]]
        assert [row[f"log loss {when}"] for row in rows] == pytest.approx([log_loss(LABELS, one) for one in every])
        assert [row[f"calibration error {when}"] for row in rows] == pytest.approx([error(one) for one in every])


def test_each_output_has_rows_of_its_own():
    outputs = [WHICH._replace(label="which"), Predicted("sign", COLUMN, YES, None, "binary", "sigmoid")]
    rows = before_and_after(["a", "b"], outputs, [[1.0, 2.0], [1.0, 1.0]], "validation")
    assert [(row["model"], row["output"]) for row in rows] == [("1: a", "which"), ("2: b", "which"), ("1: a", "sign"), ("2: b", "sign")]
    assert rows[2]["log loss after"] == pytest.approx(log_loss(YES[:, 0], expit(COLUMN[0, :, 0] / 2)))
    assert rows[0]["log loss before"] == rows[0]["log loss after"]
