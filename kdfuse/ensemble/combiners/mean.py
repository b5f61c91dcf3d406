"""The mean of the members."""

from typing import Any

import keras
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner


@keras.saving.register_keras_serializable("kdfuse")
class Mean(Combiner):
    """The arithmetic mean of the members' probabilities, or of their values for a regression: soft voting."""

    def combine(self, stacked: Any) -> Any:
        return ops.mean(stacked, axis=-1)
