"""A sum of members over a start: what gradient boosting builds."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner


@keras.saving.register_keras_serializable("kdfuse")
class Additive(Combiner):
    """`start + sum of weight times member`, of what the members give as it is: values, or for classes logits.

    Args:
        start: `[classes]` or `[columns]`.
        weights: one for each member.
        head: of the result.
    """

    of = "logits"
    gives = "logits"
    symmetric = False

    def __init__(self, start: Sequence[float] = (0.0,), weights: Sequence[float] = (1.0,), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start, self.shares = tuple(float(one) for one in start), tuple(float(one) for one in weights)
        if not np.isfinite([*self.start, *self.shares]).all() or not self.shares:
            raise ValueError(f"`weights`: expected a finite number for each member. Received: {weights!r} over {start!r}.")

    def combine(self, stacked: Any) -> Any:
        if len(self.shares) != stacked.shape[-1]:
            raise ValueError(f"`weights`: expected one for each of {stacked.shape[-1]} members. Received: {len(self.shares)}.")
        total = ops.sum(stacked * ops.convert_to_tensor(self.shares, dtype="float32"), axis=-1)
        return ops.convert_to_tensor(self.start, dtype="float32") + total

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start, "weights": self.shares}
