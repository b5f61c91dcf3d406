"""The mean of the members without the lowest and the highest."""

from typing import Any

import keras
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner


@keras.saving.register_keras_serializable("kdfuse")
class TrimmedMean(Combiner):
    """The mean without the lowest and the highest probabilities of each class, rows brought to a sum of one.

    Args:
        cut: the share of the members that is left out at each end, rounded down, in [0, 0.5): of five members 0.2 leaves out one and one.
        head: what the predictions are.

    Raises:
        ValueError: a share out of range.
    """

    def __init__(self, cut: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(cut, bool) or not isinstance(cut, int | float) or not 0 <= cut < 0.5:
            raise ValueError(f"`cut`: expected a share in [0, 0.5). Received: {cut!r}.")
        self.cut = cut

    def combine(self, stacked: Any) -> Any:
        count = stacked.shape[-1]
        out = int(self.cut * count + 1e-9)
        return self.normalised(ops.mean(ops.sort(stacked, axis=-1)[..., out : count - out], axis=-1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cut": self.cut}
