"""The median of the members."""

from typing import Any

import keras
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner


@keras.saving.register_keras_serializable("kdfuse")
class Median(Combiner):
    """The median of each class's probability, rows brought to a sum of one; of a regression that of the values.

    Of an even number of members it is the mean of the middle two. Kittler et al., 1998, "On Combining Classifiers".
    """

    def combine(self, stacked: Any) -> Any:
        count = stacked.shape[-1]
        ordered = ops.sort(stacked, axis=-1)
        middle = ordered[..., (count - 1) // 2 : count // 2 + 1]
        return self.normalised(ops.mean(middle, axis=-1))
