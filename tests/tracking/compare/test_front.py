"""The Pareto front."""

import itertools

import numpy as np
import pytest

from kdfuse.tracking.compare.front import front, goals

NAMES = ["validation/accuracy", "cost/macs", "bytes"]


def test_against_the_definition() -> None:
    drawn = np.random.default_rng(0).integers(0, 5, (40, 3)).astype(float)
    rows = [dict(zip(NAMES, values, strict=True)) for values in drawn.tolist()]
    gains = drawn * [1, -1, -1]
    beaten = {b for a, b in itertools.permutations(range(40), 2) if (gains[a] >= gains[b]).all() and (gains[a] > gains[b]).any()}
    assert front(rows, NAMES) == [place for place in range(40) if place not in beaten]


def test_a_row_without_a_figure_is_not_on_it() -> None:
    rows = [
        {"validation/accuracy": 0.9, "cost/macs": float("nan")},
        {"validation/accuracy": 0.8},
        {"validation/accuracy": 0.7, "cost/macs": 5},
    ]
    assert front(rows, NAMES[:2]) == [2] and front(rows, []) == []


def test_goals() -> None:
    rows = [{"validation/accuracy": 0.9, "test/accuracy": 0.9, "bytes": 10.0, "cost/macs": 3.0, "size/parameters": 4.0, "epochs": 3}]
    assert goals(rows) == ["validation/accuracy", "bytes", "cost/macs"]
    assert goals(rows, ["accuracy", "parameters"]) == ["validation/accuracy", "size/parameters"]
    assert goals([{"test/accuracy": 0.9}]) == []
    wrong = ((["test/accuracy", "macs"], "test split chooses nothing"), (["accuracy"], "at least two"),
             (["epochs", "macs"], "is a setting"), (["acuracy", "macs"], "Did you mean"))  # fmt: skip
    for asked, message in wrong:
        with pytest.raises(ValueError, match=message):
            goals(rows, asked)
