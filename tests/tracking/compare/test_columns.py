"""What columns mean and how they are written."""

import pytest

from kdfuse.tracking.compare.columns import cell, meaning, quality, resolve, title, usual

ROWS = [
    {"model": "a", "n": 2, "front": True, "bytes": 1234.0, "losses__0__temperature": 4.0, "validation/accuracy": 0.9, "test/accuracy": 0.91,
     "sd/test/accuracy": 0.01, "size/parameters": 1000.0, "delta/teacher/test/accuracy": -0.02, "delta/teacher/size/parameters": 0.0},
    {"model": "b", "n": 1, "front": False, "seconds": 2.0, "validation/accuracy": 0.8},
]  # fmt: skip


def test_names_are_completed() -> None:
    given = ["accuracy", "test/accuracy", "parameters", "bytes", "temperature", "n", " model "]
    found = ["validation/accuracy", "test/accuracy", "size/parameters", "bytes", "losses__0__temperature", "n"]
    assert [resolve(name, ROWS, "sort") for name in given[:-1]] == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acuracy", "`sort`: expected a figure or a setting .*Received: sort='acuracy'. Did you mean 'accuracy'"),
        ("rmse", "None has 'validation/rmse'"),
        ("xyz", "Known: n, bytes|Known: "),
    ],
)
def test_what_is_not_there_is_told_with_what_is(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(name, ROWS, "sort")


def test_a_setting_of_two_parts_must_be_named_in_full() -> None:
    with pytest.raises(ValueError, match=r"Several settings end so: a__seed, b__seed"):
        resolve("seed", [{"a__seed": 1, "b__seed": 2}], "where")


def test_cells() -> None:
    names = ("front", "n", "bytes", "test/accuracy", "size/parameters", "delta/teacher/test/accuracy", "seconds", "losses__0__temperature")
    assert [cell(ROWS[0], name) for name in names] == ["*", "2", "1,234", "91.0 ± 1.0 %", "1,000", "-0.0200", "", "4"]
    assert cell(ROWS[1], "seconds") == "2.0" and cell(ROWS[1], "front") == ""
    assert cell(ROWS[1], "validation/accuracy", spread=True) == "80.0 %"
    assert cell(ROWS[0], "delta/teacher/test/accuracy", spread=True) == "-2.0 %"


def test_heads() -> None:
    names = ("test/accuracy", "validation/accuracy", "tflite/accuracy", "delta/teacher/test/accuracy", "bytes", "n", "epochs")
    assert [title(name) for name in names] == ["test accuracy", "validation accuracy", "LiteRT accuracy", "accuracy - teacher",
                                               "file bytes",                                               "runs", "epochs"]  # fmt: skip
    assert meaning("bytes") is not None and meaning("epochs") is None


def test_the_usual_columns_are_those_that_some_row_has() -> None:
    assert usual(ROWS) == ["model", "front", "n", "validation/accuracy", "test/accuracy", "size/parameters", "delta/teacher/test/accuracy"]
    assert "n" not in usual(ROWS[1:])


def test_quality_of_regressions_and_of_several_outputs() -> None:
    assert quality([{"validation/rmse": 1.0}]) == "validation/rmse" and quality([{"size/parameters": 1.0}]) is None
    outputs = [{"validation/digit/accuracy": 0.5, "test/digit/accuracy": 0.6, "test/even/accuracy": 0.7}]
    assert quality(outputs) == "validation/digit/accuracy"
    means = [{**outputs[0], "validation/accuracy": 0.55}]
    assert quality(means) == "validation/accuracy" and quality([{"validation/digit/rmse": 0.1, **means[0]}]) == "validation/accuracy"
    assert usual(outputs) == ["model", "front", "validation/digit/accuracy", "test/digit/accuracy", "test/even/accuracy"]
