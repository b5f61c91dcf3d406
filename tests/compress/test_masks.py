"""Masks against plain loops in NumPy."""

import numpy as np
import pytest

from kdfuse.compress.masks import groups, keep_count, largest, largest_per_output, n_of_m, pool, slack, spread
from kdfuse.compress.patterns import Block, NofM

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("size", "sparsity", "expected"), [(10, 0.0, 10), (10, 0.75, 2), (10, 0.85, 2), (10, 0.99, 1), (7, 0.5, 4), (3, 0.5, 2)]
)
def test_rounding_is_half_to_even_and_one_stays(size, sparsity, expected):
    # 10 * (1 - 0.75) = 2.5 and 10 * (1 - float32(0.85)) = 1.4999998 or 1.5: as TFMOT rounds, in float32.
    by_hand = max(1, int(np.rint(np.float32(size) * (np.float32(1) - np.float32(sparsity)))))
    assert keep_count(size, sparsity) == by_hand and abs(by_hand - expected) <= (sparsity == 0.85)


@pytest.mark.parametrize("keep", [1, 17, 100, 119, 120, 500])
def test_the_largest_stay(keep):
    scores = RNG.random((3, 8, 5))
    expected = np.isin(scores, np.sort(scores, axis=None)[-keep:])
    assert np.array_equal(largest(scores, keep), expected)


def test_a_tie_stays_as_a_whole_and_groups_of_equal_scores_do_not():
    assert largest(np.array([3.0, 1.0, 1.0, 0.5]), 2).tolist() == [True, True, True, False]  # TFMOT keeps both
    equal = np.repeat([3.0, 2.0, 1.0], 4)
    assert largest(equal, 6).tolist() == [True] * 6 + [False] * 6  # four ties: the first two
    many = np.r_[np.arange(2000.0), np.full(3, 1999.5)]
    assert largest(many, 2).sum() == 3 and slack(2003) == 2 and slack(10) == 1  # one more than asked is within the slack


def test_each_output_keeps_its_own():
    scores = RNG.random((2, 6, 7))
    marked = largest_per_output(scores, 5)
    for output in range(7):
        column = scores[..., output].ravel()
        assert np.array_equal(marked[..., output].ravel(), np.isin(column, np.sort(column)[-5:]))
    assert largest_per_output(scores, 12).all()
    ties = np.ones((1, 6, 2))
    ties[0, 5, 1] = 2.0
    assert largest_per_output(ties, 2)[0].T.tolist() == [[True, True, False, False, False, False], [True, False, False, False, False, True]]


@pytest.mark.parametrize(("n", "m", "inputs"), [(2, 4, 8), (1, 4, 10), (4, 8, 6), (2, 3, 7)])
def test_n_of_each_m_inputs_stay(n, m, inputs):
    scores = RNG.random((2, inputs, 3))
    expected = np.zeros(scores.shape, bool)
    for position, output in np.ndindex(2, 3):
        for start in range(0, inputs, m):
            group = scores[position, start : start + m, output]
            expected[position, start + np.argsort(-group)[:n], output] = True
    assert np.array_equal(n_of_m(scores, NofM(n, m)), expected)
    assert groups(scores, m, 0.0).shape == (2, -(-inputs // m), m, 3)


def test_of_equal_inputs_the_first_stay():
    assert n_of_m(np.zeros((1, 4, 1)), NofM(1, 4)).ravel().tolist() == [True, False, False, False]


@pytest.mark.parametrize("block", [Block(4, 1), Block(2, 3), Block(3, 2, "max"), Block(1, 4), Block(16, 1)])
def test_blocks_are_pooled_and_spread(block):
    scores = RNG.random((2, 9, 7))
    pooled = pool(scores, block)
    assert pooled.shape == (2, -(-9 // block.inputs), -(-7 // block.outputs))
    function = {"mean": np.mean, "max": np.max}[block.pooling]
    for place in np.ndindex(*pooled.shape):
        part = scores[place[0], place[1] * block.inputs :, place[2] * block.outputs :][: block.inputs, : block.outputs]
        assert pooled[place] == pytest.approx(function(part))
    marked = spread(pooled > 0.5, block, scores.shape)
    assert marked.shape == scores.shape
    for place in np.ndindex(*scores.shape):
        assert marked[place] == (pooled[place[0], place[1] // block.inputs, place[2] // block.outputs] > 0.5)
