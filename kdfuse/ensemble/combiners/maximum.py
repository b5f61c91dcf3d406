"""The maximum of the members."""

from typing import Any

import keras
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner


@keras.saving.register_keras_serializable("kdfuse")
class Max(Combiner):
    """The highest probability that any member gives a class, rows brought to a sum of one: who is surest decides.

    Kittler et al., 1998, "On Combining Classifiers".
    """

    heads = ("softmax", "sigmoid")

    def combine(self, stacked: Any) -> Any:
        return self.normalised(ops.max(stacked, axis=-1))
