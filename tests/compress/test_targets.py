import pytest

from kdfuse.compress.targets import absolute, find_keep


def test_the_largest_share_within_the_target():
    keep = find_keep("parameters", lambda keep: 100 * keep**2 + 1, 26)
    assert keep == pytest.approx(0.5, abs=1e-3) and 100 * keep**2 + 1 <= 26
    assert find_keep("macs", lambda keep: 10 * keep, 50) == 1.0


def test_a_target_out_of_reach():
    with pytest.raises(ValueError, match=r"`macs`: expected at least 20.*Received: 10"):
        find_keep("macs", lambda keep: 20 + keep, 10)


def test_shares_and_counts():
    assert absolute("macs", 0.3, 1000) == 300 and absolute("parameters", 500, 1000) == 500 and absolute("latency_ms", 0.5, 2.0) == 0.5
    assert absolute("parameters", 1, 1000) == 1
    for name, target in (("parameters", 1000), ("parameters", 1.0), ("latency_ms", 3.0)):
        with pytest.raises(ValueError, match=f"`{name}`: expected less than the model has"):
            absolute(name, target, 1000 if name == "parameters" else 2.0)
