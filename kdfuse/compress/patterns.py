"""Patterns of sparsity that hardware can use: N of M consecutive weights, and blocks."""

from kdfuse.settings import choose, settings

POOLINGS = ("mean", "max")


@settings
class NofM:
    """At most `n` of each `m` consecutive inputs of an output keep their weight: 2 of 4, 4 of 8.

    Groups run along the inputs of a Dense kernel and along the input channels of a convolution, at each position of its window, as
    LiteRT stores them. Where the inputs are no multiple of `m` the last group is short, and may keep `n` too. Mishra et al. 2021
    (arXiv 2104.08378), Zhou et al. 2021 (arXiv 2102.04010). TFMOT's `sparsity_m_by_n=(z, m)` counts the zeros: `NofM(m - z, m)`.

    Attributes:
        n: weights that stay, at least 1.
        m: of so many, above `n`.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if any(isinstance(one, bool) or not isinstance(one, int) for one in (self.n, self.m)) or not 1 <= self.n < self.m:
            raise ValueError(f"`NofM`: expected integers n and m with 1 <= n < m. Received: n={self.n!r}, m={self.m!r}.")


@settings
class Block:
    """Weights stay or go in blocks: `Block(4, 1)` is 4 inputs by 1 output, which LiteRT's sparse kernels run faster.

    Of a convolution, blocks lie in the input and output channels at each position of its window. Blocks begin at the first weight;
    those at the end are short where the size is no multiple (there, TFMOT reads a window that is shifted against the block). A
    block's score is pooled over its weights. Narang et al. 2017 (arXiv 1711.02782).

    Attributes:
        inputs: of a block, at least 1.
        outputs: of a block, at least 1.
        pooling: `mean` or `max`, TFMOT's AVG and MAX.
    """

    inputs: int = 4
    outputs: int = 1
    pooling: str = "mean"

    def __post_init__(self) -> None:
        sizes = (self.inputs, self.outputs)
        if any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in sizes) or sizes == (1, 1):
            raise ValueError(
                f"`Block`: expected two integers from 1, not both 1. Received: inputs={self.inputs!r}, outputs={self.outputs!r}."
            )
        choose("pooling", self.pooling, POOLINGS)


Pattern = NofM | Block
