"""From the outputs of a model to the logits that the losses are on."""

from typing import Any

from kdfuse.distill.structure import aligned, flat
from kdfuse.graph.heads import to_logits

Tensor = Any


def logits_of(outputs: Any, heads: Any) -> Any:
    """The float32 logits of a model's outputs, in their structure (a flat list for several).

    Where an output comes out of a softmax or a sigmoid, these are the values that went in: no logarithm of a
    probability that was rounded to 0.

    Args:
        outputs: what the model gave: a tensor, or a list, tuple or dict of them.
        heads: one of `kdfuse.graph.heads.HEADS`, or a structure of them for several outputs.

    Returns:
        Logits `[batch, ..., classes]`, of sigmoids those of no and yes: see `kdfuse.graph.heads.to_logits`.
    """
    return like(outputs, [_logits(output, head) for output, head in zip(flat(outputs), aligned("head", heads, outputs), strict=True)])


def like(structure: Any, leaves: list[Any]) -> Any:
    """`leaves` in the structure of `structure`, dicts in the order in which they were written."""
    rest = iter(leaves)

    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: fill(value) for name, value in part.items()}
        if isinstance(part, list | tuple):
            return [fill(value) for value in part]
        return next(rest)

    return fill(structure)


def masks_of(outputs: Any) -> Any:
    """The Keras masks of a model's outputs, None where there is none."""
    return like(outputs, [getattr(output, "_keras_mask", None) for output in flat(outputs)])


def _logits(output: Tensor, head: str) -> Tensor:
    # Keras leaves the input of a softmax or sigmoid at its output, for its own cross-entropies.
    before = getattr(output, "_keras_logits", None) if head in ("softmax", "sigmoid") else None
    return to_logits(output, head) if before is None else to_logits(before, head, raw=True)
