"""Names and values as MLflow accepts them."""

import math

import pytest

from kdfuse.tracking import names


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("train/loss", "train/loss"),
        ("a(b)=1", "a_b__1"),
        ("/a//b/../c", "a/b/c"),
        ("", "_"),
        ("..", "_"),
        ("x" * 300, "x" * 250),
        ("delta/teacher/test/accuracy", "delta/teacher/test/accuracy"),
    ],
)
def test_name(given: str, expected: str) -> None:
    assert names.name(given) == expected


def test_mlflow_takes_every_name() -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    for odd in ("/a", "a/", "ä ö", "x\ny", "a*b", "../x", "é" * 260, "a/./b"):
        _validate_metric_name(names.name(odd))
        _validate_param_name(names.name(odd))


def test_parameter() -> None:
    assert [names.parameter(value) for value in (True, None, 0.1, "x")] == ["true", "None", "0.1", "x"]
    assert len(names.parameter("x" * 9000)) == 6000 and names.parameter("x" * 9000).endswith("…")


def test_tag() -> None:
    assert names.tag("data", "digits") == ("kdfuse.data", "digits")
    assert names.tag("mlflow.note.content", 1) == ("mlflow.note.content", "1")


def test_number() -> None:
    assert names.number("x") is None and names.number(None) is None
    assert names.number(2) == 2.0 and math.isnan(names.number(float("nan")) or 0.0)
    assert names.number(float("-inf")) == -1.7976931348623157e308
