"""A layer that adds what the model before has said."""

from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.ensemble.masks import common_mask


@keras.saving.register_keras_serializable("kdfuse")
class Adding(keras.layers.Layer):
    """`answers + said @ kernel + bias`, which is `answers` at first.

    Args:
        units: the size of the last axis of the answers.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.units = units
        # A layer of Keras, and not weights of our own: its multiply-accumulates are known.
        self.linear = keras.layers.Dense(units, kernel_initializer="zeros", dtype=self.dtype_policy, name="linear")

    def build(self, shapes: Any) -> None:
        self.linear.build(shapes[1])

    def call(self, given: Sequence[Any]) -> Any:
        answers, said = given
        return answers + self.linear(said)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return common_mask(previous_mask)

    def compute_output_shape(self, shapes: Any) -> Any:
        return shapes[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
