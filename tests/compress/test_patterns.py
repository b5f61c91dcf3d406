import pytest

from kdfuse.compress.patterns import Block, NofM


@pytest.mark.parametrize("given", [(4, 4), (0, 4), (2, 1), (1.5, 4), (True, 4)])
def test_n_of_m_must_keep_some_and_drop_some(given):
    with pytest.raises(ValueError, match="`NofM`: expected integers n and m with 1 <= n < m"):
        NofM(*given)


@pytest.mark.parametrize("given", [(1, 1), (0, 4), (4, -1), (4, 1.5), (True, 2)])
def test_blocks_have_whole_sizes(given):
    with pytest.raises(ValueError, match="`Block`: expected two integers from 1"):
        Block(*given)


def test_an_unknown_pooling_raises_with_the_near_name():
    with pytest.raises(ValueError, match=r"`pooling`: .*Did you mean 'mean'"):
        Block(4, 1, "meen")
    assert (Block().inputs, Block().outputs, Block().pooling, NofM().n, NofM().m) == (4, 1, "mean", 2, 4)
