"""Compressed size as Deep Compression counts it: shared values in a codebook, positions as gaps, both Huffman-coded.

Reference: Han, Mao and Dally, 2016, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman
Coding", arXiv 1510.00149, sections 2 to 4.

The bits of one kernel of N values are the least of three:

- as it is: 32 N;
- dense: V(all values), where V is the cost of a stream of n values with d distinct ones: the lesser of 32 n and
  `Huffman bits + 8 d + 32 d`: the code, a table of code lengths (a byte for each symbol, as canonical Huffman codes need), and the
  codebook in float32;
- sparse: V(nonzero values and fillers) + Huffman bits of the gaps + 8 (number of distinct gaps). A gap is the distance from one stored
  entry to the next in row-major order, the first from just before the start. A gap beyond the span 2^b is bridged by fillers, stored
  entries of value 0 at gap 2^b; b is the best of 2 to 8 (the paper takes 5 and 8 by hand).

What is no kernel (biases, statistics of normalization) counts 4 bytes a value. A Huffman code of a single symbol takes 0 bits.
"""

import heapq
import math
from collections import Counter
from typing import Any, NamedTuple

import keras
import numpy as np

Tally = Counter[int]
"""How many symbols come so often: by the number of times, the number of symbols."""

SPANS = tuple(2**bits for bits in range(2, 9))


class Coded(NamedTuple):
    """What a model's weights take.

    Attributes:
        unique: distinct values over all kernels; 0 counts as one.
        bytes: of all weights, coded.
        rows: for each kernel its path, values, nonzero and distinct ones, bytes, and how it is coded.
    """

    unique: int
    bytes: int
    rows: list[dict[str, Any]]


def coded(model: keras.Model) -> Coded:
    """Count a model's weights as the module says; the model is only read. A kernel is a weight of two axes or more."""
    rows, values, bits = [], [], 0
    for weight in model.weights:
        if len(weight.shape) < 2:
            bits += 32 * math.prod(weight.shape)
            continue
        array = np.asarray(keras.ops.convert_to_numpy(weight), "float32").reshape(-1) + np.float32(0)  # -0 is 0
        ordered = np.sort(array)
        firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else np.zeros(0, int)
        distinct, counts = ordered[firsts], np.diff(np.append(firsts, len(ordered)))
        taken, how = _kernel(array, distinct, counts)
        values.append(distinct)
        bits += taken
        rows.append({"kernel": weight.path, "values": len(array), "nonzero": int(np.count_nonzero(array)), "unique": len(distinct),
                     "bytes": math.ceil(taken / 8), "coding": how})  # fmt: skip
    # Kernels of floats that nobody shared are already sorted, and the stable sort merges sorted runs.
    together = np.sort(np.concatenate(values), kind="stable") if values else np.zeros(0)
    unique = int((together[1:] != together[:-1]).sum()) + 1 if len(together) else 0
    return Coded(unique, math.ceil(bits / 8), rows)


def huffman_bits(counts: Any) -> int:
    """The length in bits of a Huffman-coded stream.

    Args:
        counts: how often each symbol comes.
    """
    return _huffman(_tally(np.asarray(counts)))


def _tally(counts: np.ndarray) -> Tally:
    often, many = np.unique(counts[counts > 0], return_counts=True)
    return Counter(dict(zip(often.tolist(), many.tolist(), strict=True)))


def _huffman(tally: Tally) -> int:
    numbers = Counter(tally)
    weights = list(numbers)
    heapq.heapify(weights)
    total = 0
    while weights:
        # All nodes of the least weight are joined in pairs at once; a Huffman code's length does not depend on the order.
        weight = heapq.heappop(weights)
        many = numbers.pop(weight)
        pairs, left = divmod(many, 2)
        if pairs:
            total += 2 * weight * pairs
            _put(weights, numbers, 2 * weight, pairs)
        if left and weights:
            partner = weights[0]
            total += weight + partner
            numbers[partner] -= 1
            if not numbers[partner]:
                heapq.heappop(weights)
                del numbers[partner]
            _put(weights, numbers, weight + partner, 1)
    return total


def _put(weights: list[int], numbers: Tally, weight: int, many: int) -> None:
    if weight not in numbers:
        heapq.heappush(weights, weight)
    numbers[weight] += many


def _kernel(array: np.ndarray, distinct: np.ndarray, counts: np.ndarray) -> tuple[int, str]:
    total, tally = len(array), _tally(counts)
    ways = [(32 * total, "float32"), (_stream(tally), "dense")]
    zeros = int(counts[distinct == 0].sum())
    if zeros:
        nonzero = tally - Counter({zeros: 1})
        places = np.flatnonzero(array)
        kept = len(places)
        # Gaps of 1 and longer ones take a bit each at least: few zeros cannot pay, and the rest is spared.
        mixed = kept > total // 2 + 1 and int(places[-1]) >= kept
        if _stream(nonzero) + kept * mixed < min(ways)[0]:
            often = np.bincount(np.diff(places, prepend=-1))
            gaps = np.flatnonzero(often)
            ways += [(_sparse(nonzero, gaps, often[gaps], span), "sparse") for span in SPANS]
    # Ties go to the simpler form.
    return min(ways, key=lambda way: way[0])


def _stream(tally: Tally) -> int:
    """V of the module's text."""
    total, distinct = sum(often * many for often, many in tally.items()), sum(tally.values())
    plain = 32 * total
    # The entropy is a lower bound, and spares the code of many distinct values.
    entropy = sum(often * many * math.log2(total / often) for often, many in tally.items())
    return plain if 40 * distinct + entropy >= plain else min(plain, _huffman(tally) + 40 * distinct)


def _sparse(nonzero: Tally, gaps: np.ndarray, often: np.ndarray, span: int) -> int:
    fillers = int((((gaps - 1) // span) * often).sum())
    lengths = np.bincount((gaps - 1) % span, weights=often, minlength=span).astype(int)
    lengths[span - 1] += fillers
    values = nonzero + Counter({fillers: 1}) if fillers else nonzero
    return _stream(values) + huffman_bits(lengths) + 8 * int(np.count_nonzero(lengths))
