"""Masks from scores, in NumPy: the largest scores, blocks, N of M. Rounding and ties are those of TFMOT."""

import numpy as np

from kdfuse.compress.patterns import Block, NofM


def keep_count(size: int, sparsity: float) -> int:
    """How many of `size` stay at a sparsity in [0, 1): rounded half to even in float32, at least 1."""
    return max(1, int(np.rint(np.float32(size) * (np.float32(1) - np.float32(sparsity)))))


def slack(size: int) -> int:
    """How many more than `keep_count` may stay where scores are equal: 1, or a thousandth."""
    return max(1, size // 1000)


def largest(scores: np.ndarray, keep: int) -> np.ndarray:
    """Mark the `keep` largest scores.

    All scores that equal the smallest of them stay too, as in TFMOT, unless they are more than `slack` (whole groups of equal
    weights, after clustering): then the first ones stay, and exactly `keep`.

    Args:
        scores: of any shape, at least 0.
        keep: from 1.

    Returns:
        Booleans of the same shape.
    """
    flat = scores.reshape(-1)
    if keep >= flat.size:
        return np.ones(scores.shape, bool)
    # One value in its place, which a partition finds without sorting the rest.
    threshold = np.partition(flat, flat.size - keep)[flat.size - keep]
    marked = flat >= threshold
    if np.count_nonzero(marked) - keep > slack(flat.size):
        marked = flat > threshold
        marked[np.flatnonzero(flat == threshold)[: keep - np.count_nonzero(marked)]] = True
    return marked.reshape(scores.shape)


def largest_per_output(scores: np.ndarray, keep: int) -> np.ndarray:
    """Mark the `keep` largest scores of each output.

    Args:
        scores: `[positions, inputs, outputs]`; an output's scores are those of all positions and inputs.
        keep: from 1.
    """
    rows = scores.reshape(-1, scores.shape[-1])
    size = len(rows)
    if keep >= size:
        return np.ones(scores.shape, bool)
    threshold = np.partition(rows, size - keep, axis=0)[size - keep]
    marked = rows >= threshold
    for column in np.flatnonzero(np.count_nonzero(marked, axis=0) > keep):  # equal scores: the first ones stay
        ties = np.flatnonzero(rows[:, column] == threshold[column])
        marked[ties, column] = False
        marked[ties[: keep - np.count_nonzero(marked[:, column])], column] = True
    return marked.reshape(scores.shape)


def n_of_m(scores: np.ndarray, pattern: NofM) -> np.ndarray:
    """Mark the `n` largest of each `m` consecutive inputs; the first of equal ones.

    Args:
        scores: `[positions, inputs, outputs]`.
        pattern: n and m.
    """
    order = np.argsort(-groups(scores, pattern.m, -1.0), axis=2, kind="stable")[:, :, : pattern.n]
    marked = np.zeros((scores.shape[0], -(-scores.shape[1] // pattern.m), pattern.m, scores.shape[2]), bool)
    np.put_along_axis(marked, order, True, axis=2)
    return marked.reshape(scores.shape[0], -1, scores.shape[2])[:, : scores.shape[1]]


def groups(values: np.ndarray, size: int, fill: float) -> np.ndarray:
    """`[positions, inputs, outputs]` as `[positions, groups, size, outputs]`, the last group filled up."""
    missing = -values.shape[1] % size
    padded = np.pad(values, ((0, 0), (0, missing), (0, 0)), constant_values=fill)
    return padded.reshape(values.shape[0], -1, size, values.shape[2])


def pool(scores: np.ndarray, block: Block) -> np.ndarray:
    """The mean or the largest score of each block, first along inputs, then along outputs.

    Args:
        scores: `[positions, inputs, outputs]`.
        block: its sizes and pooling.

    Returns:
        `[positions, blocks, blocks]`. A short block at the end is pooled over the weights it has.
    """
    along_inputs = _pool(scores, 1, block.inputs, block.pooling)
    return _pool(along_inputs, 2, block.outputs, block.pooling)


def spread(marked: np.ndarray, block: Block, shape: tuple[int, ...]) -> np.ndarray:
    """Marks of blocks as marks of the weights in them, `[positions, inputs, outputs]` of the given shape."""
    return marked.repeat(block.inputs, axis=1).repeat(block.outputs, axis=2)[:, : shape[1], : shape[2]]


def _pool(values: np.ndarray, axis: int, size: int, pooling: str) -> np.ndarray:
    if size == 1:
        return values
    starts = np.arange(0, values.shape[axis], size)
    if pooling == "max":
        return np.maximum.reduceat(values, starts, axis=axis)
    counts = np.minimum(size, values.shape[axis] - starts).astype(values.dtype)
    return np.add.reduceat(values, starts, axis=axis) / counts.reshape([-1 if place == axis else 1 for place in range(3)])
