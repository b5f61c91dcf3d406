"""What every combiner is: a Keras layer that takes the predictions of all members and gives one."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from kdfuse.ensemble.masks import common_mask
from kdfuse.settings import choose

HEADS = ("softmax", "sigmoid", "regression")


class Combiner(keras.layers.Layer):
    """Combines the predictions of the members of an ensemble. A combiner of one's own writes `combine`.

    It is called on a list of tensors of one shape `[rows, ..., classes]`, one for each member, all of the scale `of`, and gives
    `[rows, ..., classes]`: probabilities, or of a regression values.

    Args:
        head: what the predictions are: `"softmax"` (each row sums to 1), `"sigmoid"` (each column on its own) or `"regression"`. A
            technique sets it for each output of its members.
    """

    of: ClassVar[str] = "probabilities"
    """What it takes: `"probabilities"` (regressions: values) or `"logits"`."""
    gives: ClassVar[str] = "probabilities"
    """What it gives: `"probabilities"` (regressions: values) or `"logits"`; the head of a model that ends in it is read from here."""
    symmetric: ClassVar[bool] = True
    """Whether the order of the members makes no difference."""
    heads: ClassVar[tuple[str, ...]] = HEADS
    """What the predictions may be."""

    def __init__(self, head: str = "softmax", **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.head = choose("head", head, HEADS)

    @property
    def fitted(self) -> bool:
        """Whether it has yet to learn from rows that the members were not trained on."""
        return False

    def call(self, members: Sequence[Any]) -> Any:
        return self.combine(ops.stack([ops.cast(one, "float32") for one in members], axis=-1))

    def combine(self, stacked: Any) -> Any:
        """One prediction `[rows, ..., classes]` of those of all members `[rows, ..., classes, members]`."""
        raise NotImplementedError(f"{type(self).__name__}: write `combine(stacked)`.")

    def learn(self, members: np.ndarray, targets: np.ndarray, sample_weight: Any = None) -> Self:
        """A combiner of the same settings that has learned from predictions and targets; this one, where there is nothing to learn.

        Args:
            members: `[members, rows, ..., classes]` of the scale `of`.
            targets: class numbers `[rows, ...]`, or rows like a member's.
            sample_weight: None, or weights `[rows]`.
        """
        return self

    def weights_of(self, count: int) -> list[float] | None:
        """The weight of each of `count` members, None where they have none of their own."""
        return None

    def bound(self, head: str, name: str, **settings: Any) -> Self:
        """A copy for predictions of `head`, under a name of its own, with some settings replaced.

        Raises:
            ValueError: it does not combine such predictions.
        """
        if head not in self.heads:
            raise ValueError(
                f"`combiner`: {type(self).__name__} combines {' or '.join(self.heads)}. Received: members with the head {head}."
            )
        return type(self).from_config({**self.get_config(), "head": head, "name": name, **settings})

    def normalised(self, values: Any) -> Any:
        """Rows that sum to 1, for a softmax: a row of zeros becomes equal shares. Other values as they are."""
        if self.head != "softmax":
            return values
        # Over the largest first: the sum of tiny values is as good as that of others.
        top = ops.stop_gradient(ops.max(values, axis=-1, keepdims=True))
        scaled = ops.where(top > 0, values, 1.0) / ops.where(top > 0, top, 1.0)
        return scaled / ops.sum(scaled, axis=-1, keepdims=True)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return common_mask(previous_mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "head": self.head}


def normalised_weights(argument: str, weights: Sequence[float] | None) -> tuple[float, ...] | None:
    """Weights that sum to one.

    Raises:
        ValueError: fewer than one, negative or not finite, or all of them 0.
    """
    if weights is None:
        return None
    try:
        array = np.asarray(list(weights), dtype="float64")
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all() or array.min() < 0 or array.sum() <= 0:
        raise ValueError(f"`{argument}`: expected a number of at least 0 for each member, not all of them 0. Received: {weights!r}.")
    return tuple(float(one) for one in array / array.sum())
