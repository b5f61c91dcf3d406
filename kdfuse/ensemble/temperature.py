"""A layer that makes a model more or less sure of what it says."""

from typing import Any

import keras
from keras import ops

from kdfuse.settings import choose


@keras.saving.register_keras_serializable("kdfuse")
class Temperature(keras.layers.Layer):
    """Probabilities of logits divided by a temperature. Guo et al., 2017 (arXiv 1706.04599), section 4.2.

    Args:
        temperature: above 0; above 1 the model becomes less sure. Which class is the likeliest stays.
        head: `"softmax"` or `"sigmoid"`.
    """

    def __init__(self, temperature: float = 1.0, head: str = "softmax", **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.temperature = float(temperature)
        self.head = choose("head", head, ("softmax", "sigmoid"))
        self.supports_masking = True

    def call(self, logits: Any) -> Any:
        scaled = ops.cast(logits, "float32") / self.temperature
        return ops.softmax(scaled, axis=-1) if self.head == "softmax" else ops.sigmoid(scaled)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature, "head": self.head}
