import heapq
import itertools
import math
import time
from collections import Counter

import keras
import numpy as np
import pytest

from kdfuse.measure.coding import coded, huffman_bits

layers = keras.layers
RNG = np.random.default_rng(0)


def code_lengths(counts):
    """Huffman's algorithm as the textbook has it: the depth of each symbol in the tree."""
    order = itertools.count()
    heap = [(count, next(order), [symbol]) for symbol, count in counts.items()]
    heapq.heapify(heap)
    depth = dict.fromkeys(counts, 0)
    while len(heap) > 1:
        (a, _, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in left + right:
            depth[symbol] += 1
        heapq.heappush(heap, (a + b, next(order), left + right))
    return depth


def stream_bits(stream, symbol_bits):
    counts = Counter(stream)
    depth = code_lengths(counts)
    return sum(count * depth[symbol] for symbol, count in counts.items()) + (8 + symbol_bits) * len(counts)


def values_bits(values):
    return min(32 * len(values), stream_bits(values, 32))


def kernel_bits(kernel):
    """Deep Compression, entry by entry."""
    flat = [float(value) for value in np.asarray(kernel).reshape(-1)]
    ways = [32 * len(flat), values_bits(flat)]
    for bits in range(2, 9):
        span, last, values, gaps = 2**bits, -1, [], []
        for place, value in enumerate(flat):
            if value == 0:
                continue
            while place - last > span:
                values.append(0.0)
                gaps.append(span)
                last += span
            values.append(value)
            gaps.append(place - last)
            last = place
        if len([value for value in flat if value]) < len(flat):
            ways.append(values_bits(values) + stream_bits(gaps, 0))
    return min(ways)


def model_with(kernel, bias=True):
    model = keras.Sequential([keras.Input((kernel.shape[0],)), layers.Dense(kernel.shape[1], use_bias=bias)])
    model.layers[0].kernel.assign(kernel)
    return model


@pytest.mark.parametrize(
    "counts", [[5], [1, 1], [3, 3, 3], [45, 13, 12, 16, 9, 5], [1] * 100, list(range(1, 60)), [7, 7, 7, 1, 1, 20, 3, 3]]
)
def test_huffman_against_the_textbook(counts):
    named = dict(enumerate(counts))
    depth = code_lengths(named)
    assert huffman_bits(counts) == sum(count * depth[symbol] for symbol, count in named.items())


def test_huffman_against_the_textbook_on_random_counts():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        counts = rng.integers(0, 10 ** rng.integers(1, 5), rng.integers(1, 80))
        named = {symbol: int(count) for symbol, count in enumerate(counts) if count}
        depth = code_lengths(named)
        assert huffman_bits(counts) == sum(count * depth[symbol] for symbol, count in named.items())


def kernels():
    normal = RNG.normal(size=(40, 30)).astype("float32")
    shared = RNG.choice(np.linspace(-1, 1, 8), size=(40, 30)).astype("float32")
    for density in (0.5, 0.1, 0.02, 0.002):
        kept = RNG.random((40, 30)) < density
        yield f"shared at {density}", np.where(kept, shared, 0).astype("float32"), "sparse" if density < 0.1 else None
    yield "floats", normal, "float32"
    yield "shared", shared, "dense"
    yield "sparse floats", np.where(RNG.random((40, 30)) < 0.1, normal, 0).astype("float32"), "sparse"
    yield "zeros", np.zeros((40, 30), "float32"), None
    yield "one value", np.full((40, 30), 0.5, "float32"), "dense"
    yield "blocks", np.repeat(np.where(RNG.random((1, 30)) < 0.2, 1.0, 0), 40, axis=0).astype("float32").T.copy(), None


@pytest.mark.parametrize(("name", "kernel", "coding"), list(kernels()))
def test_bytes_against_an_independent_count(name, kernel, coding):
    found = coded(model_with(kernel))
    assert found.bytes == math.ceil((kernel_bits(kernel) + 32 * kernel.shape[1]) / 8)
    (row,) = found.rows
    assert row["unique"] == found.unique == len(set(kernel.reshape(-1).tolist()))
    assert (row["values"], row["nonzero"]) == (1200, np.count_nonzero(kernel))
    assert coding in (None, row["coding"])


def test_values_shared_between_kernels_count_once():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dense(2)])
    model.layers[0].kernel.assign([[1, 2], [1, -0.0], [0, 0]])
    model.layers[1].kernel.assign([[2, 3], [3, 3]])
    found = coded(model)
    assert found.unique == 4 and [row["unique"] for row in found.rows] == [3, 2]
    assert [row["kernel"] for row in found.rows] == [layer.kernel.path for layer in model.layers]


def test_weights_that_are_no_kernels_count_in_full():
    model = keras.Sequential([keras.Input((7,)), layers.BatchNormalization()])
    assert coded(model) == (0, 7 * 4 * 4, [])


@pytest.mark.slow
def test_25_million_parameters_take_about_three_seconds_of_the_processor():
    model = keras.Sequential([keras.Input((1581,)), *[layers.Dense(1581) for _ in range(10)]])
    begun = time.process_time()
    found = coded(model)
    assert time.process_time() - begun < 4
    assert found.bytes == 4 * model.count_params()
