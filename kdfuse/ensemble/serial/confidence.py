"""How sure a model is of its own prediction, in [0, 1], one number a row."""

from collections.abc import Callable
from typing import Any

from keras import ops

TINY = 1e-12
Confidence = Callable[[Any], Any]


def max_probability(chances: Any) -> Any:
    """The probability of the likeliest class."""
    return ops.max(chances, axis=-1)


def margin(chances: Any) -> Any:
    """How much likelier the likeliest class is than the next."""
    first = ops.top_k(chances, 2)[0]
    return first[..., 0] - first[..., 1]


def entropy(chances: Any) -> Any:
    """One minus the entropy of the classes, over that of a uniform distribution."""
    spread = -ops.sum(chances * ops.log(ops.maximum(chances, TINY)), axis=-1)
    return 1.0 - spread / ops.log(ops.cast(chances.shape[-1], chances.dtype))


MEASURES: dict[str, Confidence] = {"max_probability": max_probability, "margin": margin, "entropy": entropy}


def confidence(measure: str, outputs: list[Any], heads: list[str]) -> Any:
    """The confidence of a prediction `[rows]`: over columns and over several outputs the least.

    Args:
        measure: a name in `MEASURES`.
        outputs: tensors of probabilities `[rows, classes]` or, for a sigmoid, `[rows, columns]`.
        heads: of each, `"softmax"` or `"sigmoid"`.
    """
    found = []
    for chances, head in zip(outputs, heads, strict=True):
        if head == "softmax":
            found.append(MEASURES[measure](chances))
        else:
            found.append(ops.min(MEASURES[measure](ops.stack([1.0 - chances, chances], axis=-1)), axis=-1))
    return found[0] if len(found) == 1 else ops.min(ops.stack(found, axis=-1), axis=-1)
