"""The mean of the members' logits."""

from typing import Any

import keras
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner


@keras.saving.register_keras_serializable("kdfuse")
class LogitMean(Combiner):
    """The arithmetic mean of the members' logits, given as logits: what `GeometricMean` gives before its softmax."""

    of = "logits"
    gives = "logits"
    heads = ("softmax", "sigmoid")

    def combine(self, stacked: Any) -> Any:
        return ops.mean(stacked, axis=-1)
