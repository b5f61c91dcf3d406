"""The normalised geometric mean of the members."""

from typing import Any

import keras
from keras import ops

from kdfuse.ensemble.combiners.combiner import Combiner


@keras.saving.register_keras_serializable("kdfuse")
class GeometricMean(Combiner):
    """The geometric mean of the members' probabilities, brought to a sum of one: their logarithmic opinion pool.

    A class must be likely to all. It equals the softmax (or sigmoid) of the mean of the logits. Hinton, 2002, "Training Products of
    Experts by Minimizing Contrastive Divergence", with exponents 1 / members.
    """

    of = "logits"
    heads = ("softmax", "sigmoid")

    def combine(self, stacked: Any) -> Any:
        mean = ops.mean(stacked, axis=-1)
        return ops.softmax(mean, axis=-1) if self.head == "softmax" else ops.sigmoid(mean)
