"""The vote of boosted members."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner


@keras.saving.register_keras_serializable("kdfuse")
class SammeVote(Combiner):
    """Probabilities of the weighted votes of boosted classifiers, as scikit-learn's `AdaBoostClassifier` has them.

    A member gives its weight to the class it decides for, and minus its weight / (classes - 1) to the others. Over the sum of the weights
    this is the decision; the softmax of it over classes - 1 are the probabilities. Zhu et al., 2009, "Multi-class AdaBoost".

    Args:
        weights: of the members, above 0.
        head: `"softmax"`, or `"sigmoid"` of one column.
    """

    symmetric = False
    heads = ("softmax", "sigmoid")
    has_gradient = False

    def __init__(self, weights: Sequence[float] = (1.0,), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shares = tuple(float(one) for one in weights)
        if not self.shares or not np.isfinite(self.shares).all() or min(self.shares) <= 0:
            raise ValueError(f"`weights`: expected a number above 0 for each member. Received: {weights!r}.")

    def combine(self, stacked: Any) -> Any:
        shares = ops.convert_to_tensor(self.weights_of(stacked.shape[-1]), dtype="float32")
        if self.head == "sigmoid":
            decision = ops.sum(shares * (2.0 * ops.cast(stacked > 0.5, "float32") - 1.0), axis=-1)
            return ops.sigmoid(2.0 * decision)
        classes = stacked.shape[-2]
        highest = ops.cast(stacked >= ops.max(stacked, axis=-2, keepdims=True), "float32")
        votes = highest * ops.cast(ops.cumsum(highest, axis=-2) < 1.5, "float32")
        decision = ops.sum(shares * (votes - (1.0 - votes) / (classes - 1)), axis=-1)
        return ops.softmax(decision / (classes - 1), axis=-1)

    def weights_of(self, count: int) -> list[float] | None:
        if len(self.shares) != count:
            raise ValueError(f"`weights`: expected one for each of {count} members. Received: {len(self.shares)}.")
        return [one / sum(self.shares) for one in self.shares]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weights": self.shares}
