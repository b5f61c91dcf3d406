"""A layer that puts tensors side by side, whatever their shapes."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("kdfuse")
class SideBySide(keras.layers.Layer):
    """Tensors `[rows, ...]` of any shapes and dtypes, each made flat, as one `[rows, columns]` in float32."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, parts: Sequence[Any]) -> Any:
        flat = [ops.reshape(ops.cast(part, "float32"), (-1, int(np.prod(part.shape[1:])))) for part in parts]
        return ops.concatenate(flat, axis=-1) if len(flat) > 1 else flat[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0][0], sum(int(np.prod(shape[1:])) for shape in input_shape))
