import numpy as np
import pytest

from kdfuse.export.compare import check, compare

RNG = np.random.default_rng(0)
EXPECTED = RNG.normal(size=(40, 5))


def test_figures_against_numpy():
    found = EXPECTED + RNG.normal(scale=0.3, size=EXPECTED.shape)
    difference = compare(EXPECTED, found)
    assert difference.largest == pytest.approx(np.abs(found - EXPECTED).max() / np.abs(EXPECTED).max())
    residual, total = ((found - EXPECTED) ** 2).sum(), ((EXPECTED - EXPECTED.mean(0)) ** 2).sum()
    assert difference.explained == pytest.approx(1 - residual / total)
    assert difference.agreement == pytest.approx((found.argmax(1) == EXPECTED.argmax(1)).mean())


def test_the_worst_of_several_outputs_counts():
    one = np.zeros((40, 1)) + 3.0
    difference = compare({"a": EXPECTED, "b": one}, {"a": EXPECTED + 0.5, "b": one})
    assert difference == compare([EXPECTED], [EXPECTED + 0.5])
    assert compare(one, one) == (0.0, 1.0, None)


def test_the_float_tolerance_is_a_line():
    scale = np.abs(EXPECTED).max()
    check(EXPECTED, lambda x: EXPECTED + 0.9e-4 * scale, None, None)
    with pytest.raises(ValueError, match="differs from the model by 0.00011 on real inputs; expected at most 0.0001 .agreement 100.0%"):
        check(EXPECTED, lambda x: EXPECTED + 1.1e-4 * scale, None, None)
    check(EXPECTED, lambda x: EXPECTED + 1e-2 * scale, None, "float16")
    check(EXPECTED, lambda x: EXPECTED + 0.2 * scale, None, "int8")
    with pytest.raises(ValueError, match="expected at most 0.1"):
        check(EXPECTED, lambda x: EXPECTED + 0.2 * scale, None, "int8", tolerance=0.1)


@pytest.mark.parametrize("collapsed", [np.zeros_like(EXPECTED), EXPECTED[::-1], -EXPECTED])
def test_a_collapse_raises(collapsed):
    with pytest.raises(ValueError, match="The quantized file collapsed: .*R2 -?[0-9.]+"):
        check(EXPECTED, lambda x: collapsed, None, "int8")


def test_other_shapes_and_nan():
    with pytest.raises(ValueError, match=r"the shape \(40, 4\) where the model gives \(40, 5\)"):
        compare(EXPECTED, EXPECTED[:, :4])
    with pytest.raises(ValueError, match="NaN or infinity"):
        check(EXPECTED, lambda x: EXPECTED * np.nan, None, "int8")
