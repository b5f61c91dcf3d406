"""Conditions and order."""

import math
from typing import Any

import pytest

from kdfuse.tracking.compare.conditions import conditions, ordered

ROWS: list[dict[str, Any]] = [
    {"technique": "Train", "validation/accuracy": 0.9, "size/parameters": 5000.0, "epochs": 3},
    {"technique": "Distill", "validation/accuracy": 0.8, "size/parameters": 100.0, "epochs": 10},
    {"technique": "Prune", "size/parameters": 700.0},
]


@pytest.mark.parametrize(
    ("where", "places"),
    [
        (None, [0, 1, 2]),
        ("parameters < 1000", [1, 2]),
        ("size/parameters>=700", [0, 2]),
        ("size/parameters <= 5_000 and accuracy >= 85 %", [0]),
        (["parameters < 5,000", "accuracy > 0"], [1]),
        ("technique == distill", [1]),
        ("technique != 'Train'", [1, 2]),
        ("epochs = 3", [0]),
        ("accuracy != 0.9", [1]),
    ],
)
def test_conditions(where: Any, places: list[int]) -> None:
    found = conditions(where, ROWS)
    assert [place for place, row in enumerate(ROWS) if all(one.holds(row) for one in found)] == places


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("accuracy", ValueError, "`where`: expected a name, one of .* Received: where='accuracy'"),
        ("accuracy > good", ValueError, "expected a number after validation/accuracy >"),
        ("accuracy == good", ValueError, "expected a number"),
        ("acuracy > 1", ValueError, "Did you mean 'accuracy'"),
        ("accuracy > nan", ValueError, "expected a number"),
        ("0.5 < accuracy < 0.9", ValueError, "expected a name"),
        ([3], TypeError, "`where`: expected a text"),
    ],
)
def test_what_is_no_condition(where: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        conditions(where, ROWS)


def test_best_first_and_what_is_missing_last() -> None:
    assert ordered(ROWS, "validation/accuracy") == [0, 1, 2]
    assert ordered(ROWS, "size/parameters") == [1, 2, 0]
    assert ordered(ROWS, "epochs") == [0, 1, 2] and ordered(ROWS, "technique") == [1, 2, 0]
    assert ordered([{"test/rmse": math.nan}, {"test/rmse": 2.0}, {"test/rmse": 1.0}], "test/rmse") == [2, 1, 0]
