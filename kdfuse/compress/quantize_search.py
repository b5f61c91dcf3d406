"""Mixed precision: which operations get 4 bits, 8 bits, or stay in float, by a sweep over the operations of a file."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from kdfuse.export.edge_quantizer import FOUR_BITS, requantize, weighted_operations
from kdfuse.export.lite_model import LiteModel


class Move(NamedTuple):
    """One operation going to fewer bits: what it costs alone and what it saves."""

    operation: str
    bits: int
    error: float
    saved: int


@dataclasses.dataclass
class Mixed:
    """What the search found: the file, bits by operation, the score of the file, and the sweep as a table."""

    data: bytes
    bits: dict[str, int]
    score: float
    table: list[dict[str, Any]]


def four_bits(data: bytes) -> dict[str, int]:
    """Every operation in 4 bits that has such a form, the others in 8."""
    return {one.outputs[0].name: 4 if one.name in FOUR_BITS else 8 for one in weighted_operations(data)}


def search(
    data: bytes, ranges: Any, inputs: Any, score: Callable[[LiteModel], float], least: float, target_bytes: int | None = None
) -> Mixed:
    """Sweep over the operations, then go down in bits in the order of the least error for each byte saved.

    Alone at 8 or at 4 bits, with all others in float weights, each operation changes the outputs by a mean squared error. The moves of
    all operations to 8 bits come first, then those to 4 bits; as many of them are taken as leave the score at `least` or better (found by
    bisection), or as few as reach `target_bytes`.

    Args:
        data: a float file.
        ranges: of its activations.
        inputs: a batch of inputs that errors are measured on.
        score: how good a file is; more is better.
        least: the score that must be kept.
        target_bytes: the size to reach instead.

    Raises:
        ValueError: the target is not reached with all moves.
    """
    operations = weighted_operations(data)
    names = [one.outputs[0].name for one in operations]
    exact = LiteModel(data)(inputs)
    floats = dict.fromkeys(names, 32)
    start = requantize(data, floats, ranges)
    moves: list[Move] = []
    for one, name in zip(operations, names, strict=True):
        for bits in (8, 4) if one.name in FOUR_BITS else (8,):
            made = requantize(data, {**floats, name: bits}, ranges)
            moves.append(Move(name, bits, _error(exact, LiteModel(made)(inputs)), max(1, len(start) - len(made))))
    moves.sort(key=lambda move: (-move.bits, move.error / move.saved))
    known: dict[int, tuple[bytes, float]] = {}

    def after(count: int) -> tuple[bytes, float]:
        if count not in known:
            found = requantize(data, _taken(floats, moves[:count]), ranges)
            known[count] = found, score(LiteModel(found))
        return known[count]

    if target_bytes is None:
        count = _last(lambda number: after(number)[1] >= least, len(moves))
    else:
        least_bytes = len(after(len(moves))[0])
        if least_bytes > target_bytes:
            raise ValueError(
                f"`target_bytes`: expected at least {least_bytes}, what the fewest bits everywhere take. Received: {target_bytes}. "
                "Shrink or prune the model first."
            )
        count = len(moves) - _last(lambda number: len(after(len(moves) - number)[0]) <= target_bytes, len(moves))
    found, reached = after(count)
    chosen = _taken(floats, moves[:count])
    table = [{"operation": move.operation, "bits": move.bits, "error": move.error, "bytes_saved": move.saved, "taken": place < count}
             for place, move in enumerate(moves)]  # fmt: skip
    return Mixed(found, chosen, reached, table)


def _taken(floats: dict[str, int], moves: Sequence[Move]) -> dict[str, int]:
    return {**floats, **{move.operation: move.bits for move in moves}}


def _last(holds: Callable[[int], bool], most: int) -> int:
    """The largest number that holds, by bisection, 0 if none does."""
    if holds(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _error(one: Any, other: Any) -> float:
    pairs = zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True)
    return float(np.mean([np.mean((a.astype("float64") - b) ** 2) for a, b in pairs]))
