"""Token ids: whether the data has them, and how many."""

from typing import Any

import keras
import numpy as np

from kdfuse.models.checks import integer
from kdfuse.models.inputs import is_shape

PADDING = 0
MOST = 2**20
"""Above so many the numbers are more likely quantities than ids."""


def token_count(data: Any, vocabulary: Any, embedding: Any = None) -> int | None:
    """How many token ids the one input of `data` has; None where it has none.

    Integer inputs `(length,)` are token ids, 0 for padding. Their number is the largest id of the training rows plus one, if
    `vocabulary` does not say it.

    Args:
        data: what a builder gets. Its arrays are read; of a stream, only the first batch.
        vocabulary: the setting of the builder: the number of ids, or None.
        embedding: the width of their vectors, if the builder has no other use for it; or None.

    Raises:
        ValueError: `vocabulary` or `embedding` for inputs that are no token ids; `vocabulary` below the number of ids; ids below 0;
            rows of padding alone; a number that the data cannot tell.
    """
    given = None if vocabulary is None else integer("vocabulary", vocabulary, low=2)
    shapes = _flat(data.input_shape)
    kind = _kind(data)
    if len(shapes) != 1 or len(shapes[0]) != 1 or (kind or "i") not in "iu" or (kind is None and given is None):
        for argument, value in (("vocabulary", vocabulary), ("embedding", embedding)):
            if value is not None:
                raise ValueError(
                    f"`{argument}`: a setting for token ids, one integer input (length,). Received: {argument}={value!r} with "
                    f"{'integer ' if kind in ('i', 'u') else ''}inputs {', '.join(map(str, shapes))}. Leave it out, or give token ids as "
                    "integers."
                )
        return None
    counts = [_check(x, name) for name, x in _arrays(data).items()]
    if given is None and not counts:
        raise ValueError(
            "`vocabulary`: expected the number of token ids, which a stream does not tell. Received: vocabulary=None. Give it."
        )
    count = counts[0] if given is None else given
    if max([count, *counts]) > count:
        where = "validation or test rows" if given is None else "rows"
        raise ValueError(
            f"`vocabulary`: expected at least {max(counts)}, as there are {where} with the id {max(counts) - 1}. Received: "
            f"vocabulary={vocabulary}" + (f", {count} by the training rows. " if given is None else ". ") + "Give the number of all ids."
        )
    if given is None and count > MOST:
        raise ValueError(
            f"`vocabulary`: expected token ids below {MOST}. Received: ids up to {count - 1}. Convert quantities to float32, or say "
            f"vocabulary={count}."
        )
    return count


def _kind(data: Any) -> str | None:
    """The NumPy kind of the input: "i", "u", "f"; None where the data does not show it, or has several."""
    example = getattr(data, "example", None)
    leaves = keras.tree.flatten(example(1)) if callable(example) else []
    return str(np.asarray(leaves[0]).dtype.kind) if len(leaves) == 1 else None


def _arrays(data: Any) -> dict[str, np.ndarray]:
    found = {}
    for name in ("train", "validation", "test"):
        leaves = keras.tree.flatten(getattr(getattr(data, name, None), "x", None))
        if len(leaves) == 1 and isinstance(leaves[0], np.ndarray):
            found[name] = leaves[0]
    return found if "train" in found else {}


def _check(x: np.ndarray, name: str) -> int:
    if x.min() < 0:
        raise ValueError(
            f"`data`: expected token ids from 0, as the inputs are integers (length,). Received: {x.min()} in `{name}`. Number the tokens "
            "from 1 (0 is padding), or convert quantities to float32."
        )
    empty = int((x == PADDING).all(axis=1).sum())
    if empty:
        raise ValueError(
            f"`data`: expected an id other than 0 (padding) in every row. Received: {empty} rows of padding alone in `{name}`. Drop them, "
            "or give them the id of a token that stands for nothing."
        )
    return int(x.max()) + 1


def _flat(shapes: Any) -> list[tuple[Any, ...]]:
    if is_shape(shapes):
        return [tuple(shapes)]
    return [shape for part in (shapes.values() if hasattr(shapes, "values") else shapes) for shape in _flat(part)]
