"""The votes of the members."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner, normalised_weights


@keras.saving.register_keras_serializable("kdfuse")
class HardVote(Combiner):
    """The share of the members that decide for each class; a tie goes to the first class, as in scikit-learn's VotingClassifier.

    It has no gradient: a student can learn from it, but its members cannot be trained through it.

    Args:
        weights: of the votes, one for each member, brought to a sum of one; None for equal ones.
        head: what the predictions are. Of a sigmoid each column is a vote of its own: above 0.5 is a yes.
    """

    heads = ("softmax", "sigmoid")
    has_gradient = False

    def __init__(self, weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        normalised_weights("weights", weights)
        # As they came: sums of whole numbers tie exactly.
        self.shares = None if weights is None else tuple(float(one) for one in weights)

    def combine(self, stacked: Any) -> Any:
        count = stacked.shape[-1]
        if self.head == "sigmoid":
            votes = ops.cast(stacked > 0.5, "float32")
        else:
            # Not `argmax`: LiteRT has no form of what Keras makes of it.
            highest = ops.cast(stacked >= ops.max(stacked, axis=-2, keepdims=True), "float32")
            votes = highest * ops.cast(ops.cumsum(highest, axis=-2) < 1.5, "float32")
        if self.weights_of(count) is None:
            return ops.mean(votes, axis=-1)
        assert self.shares is not None
        return ops.sum(votes * ops.convert_to_tensor(self.shares, dtype="float32"), axis=-1) / sum(self.shares)

    def weights_of(self, count: int) -> list[float] | None:
        if self.shares is not None and len(self.shares) != count:
            raise ValueError(f"`weights`: expected one for each of {count} members. Received: {len(self.shares)}.")
        found = normalised_weights("weights", self.shares)
        return None if found is None else list(found)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weights": self.shares}
