"""Masks of what several models say of the same rows."""

from typing import Any

import keras
from keras import ops


def common_mask(masks: Any) -> Any:
    """Where every mask is True: the steps that all members mean. None where none has a mask.

    Args:
        masks: a structure of masks `[rows, steps]`, or None where a tensor has none.
    """
    known = [mask for mask in keras.tree.flatten(masks) if mask is not None]
    return ops.all(ops.stack(known), axis=0) if known else None


def is_masked(outputs: Any) -> bool:
    """Whether one of the tensors in a structure has a mask."""
    return any(getattr(one, "_keras_mask", None) is not None for one in keras.tree.flatten(outputs))
