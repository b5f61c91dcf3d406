import keras
import numpy as np
import pytest

from kdfuse.compress.quantize_search import _last, four_bits, search
from kdfuse.export.edge_quantizer import calibrate, weighted_operations
from kdfuse.export.litert import to_litert

layers = keras.layers


@pytest.fixture(scope="module")
def made():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64, name="a"), layers.ReLU(), layers.Dense(64, name="b")])
    x = np.random.default_rng(0).random((16, 64), "float32")
    data = to_litert(model)
    return data, calibrate(data, x), x


def test_the_table_orders_moves_by_error_for_each_byte(made):
    data, ranges, x = made
    found = search(data, ranges, x, lambda lite: 1.0, 0.5)
    assert [row["bits"] for row in found.table] == [8, 8, 4, 4] and all(row["taken"] for row in found.table)
    for bits in (8, 4):
        rates = [row["error"] / row["bytes_saved"] for row in found.table if row["bits"] == bits]
        assert rates == sorted(rates)
    errors = {(row["operation"], row["bits"]): row["error"] for row in found.table}
    for one in weighted_operations(data):
        assert errors[one.outputs[0].name, 4] > errors[one.outputs[0].name, 8]
    assert set(found.bits.values()) == {4} and found.score == 1.0


def test_the_score_stops_the_descent(made):
    data, ranges, x = made
    sizes = {}
    for least in (0.0, 10_000.0, 1e9):
        found = search(data, ranges, x, lambda lite: float(lite.bytes), least)
        sizes[least] = len(found.data)
        assert least == 1e9 or found.score >= least
    assert sizes[0.0] < 10_000 <= sizes[10_000.0] < sizes[1e9]


def test_the_target_stops_it_early(made):
    data, ranges, x = made
    smallest = len(search(data, ranges, x, lambda lite: 1.0, 0.0).data)
    found = search(data, ranges, x, lambda lite: 1.0, 0.0, target_bytes=smallest + 3000)
    assert smallest < len(found.data) <= smallest + 3000
    with pytest.raises(ValueError, match=f"`target_bytes`: expected at least {smallest}"):
        search(data, ranges, x, lambda lite: 1.0, 0.0, target_bytes=smallest - 1)


def test_bisection():
    for most in (1, 5, 8):
        for answer in range(most + 1):
            assert _last(lambda number, limit=answer: number <= limit, most) == answer


def test_four_bits(made):
    assert set(four_bits(made[0]).values()) == {4} and len(four_bits(made[0])) == 2
