from typing import Any

import numpy as np
import pytest

from kdfuse.models.checks import depth, flag, integer, number, option, per_layer, positive, rate


def test_values_become_plain() -> None:
    assert type(integer("n", np.int64(3), low=0)) is int
    assert type(number("x", np.float32(0.5))) is float
    assert type(rate("dropout", np.float64(0))) is float
    assert flag("skip", np.True_) is True
    assert per_layer("units", [np.int32(3), 4], 2, positive) == (3, 4)
    assert per_layer("units", 3, 2, positive) == (3, 3)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1])
def test_integers(value: Any) -> None:
    with pytest.raises(ValueError, match=r"`n`: expected an integer of at least 0. Received: n="):
        integer("n", value, low=0)


@pytest.mark.parametrize("value", [True, "1", None, -0.1, float("nan"), float("inf")])
def test_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match=r"`x`: expected a number of at least 0. Received: x="):
        number("x", value)
    with pytest.raises(ValueError, match=r"`x`: expected a number above 2"):
        number("x", 2, low=2, above=True)


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan"), True, "0.5", None])
def test_rates(value: Any) -> None:
    with pytest.raises(ValueError, match=r"`dropout`: expected a share from 0 to below 1. Received: dropout="):
        rate("dropout", value)


def test_flags_and_options() -> None:
    with pytest.raises(ValueError, match="expected True or False"):
        flag("skip", 1)
    assert option("pooling", None, ("max", None)) is None
    with pytest.raises(ValueError, match="Did you mean 'max'"):
        option("pooling", "maxx", ("max", None))
    with pytest.raises(ValueError, match="`pooling`: expected one of"):
        option("pooling", 3, ("max", None))


def test_one_value_for_each_layer() -> None:
    with pytest.raises(ValueError, match=r"`units\[1\]`: expected an integer of at least 1"):
        per_layer("units", (3, 0), 2, positive)
    with pytest.raises(ValueError, match=r"one value for all layers or 2.*3 values"):
        per_layer("units", (3, 3, 3), 2, positive)


def test_depth() -> None:
    assert depth("layers", None, 2, filters=3) == 2
    assert depth("layers", None, 2, filters=3, kernel_size=(3, 3, 5)) == 3
    assert depth("layers", 1, 2, filters=3) == 1
    with pytest.raises(ValueError, match=r"`b`: expected 1 values, as a=\(1,\) says. Received: b=\(1, 2\)"):
        depth("layers", None, 2, a=(1,), b=(1, 2))
