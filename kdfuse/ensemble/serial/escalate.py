"""A layer that asks another model, for those rows alone of which the answer so far is unsure."""

from typing import Any

import keras
from keras import ops

from kdfuse.ensemble.serial.confidence import MEASURES, confidence
from kdfuse.settings import choose


@keras.saving.register_keras_serializable("kdfuse")
class Escalate(keras.layers.Layer):
    """Keeps the answers that are sure, and replaces the others by those of `model`, which sees no other rows.

    Called on `(inputs, answers)`: the model's inputs, and probabilities like its outputs. On TensorFlow the rows are picked at run time,
    inside the graph: where all are sure, the model does not run. On other backends it runs on all rows, and the answers are the same.
    Under XLA too it would run on all rows: `jit_compile="auto"` leaves a model with this layer alone.

    Args:
        model: what is asked.
        threshold: rows are asked on whose confidence is below it.
        measure: `"max_probability"`, `"margin"` or `"entropy"`.
        heads: what each of the answers is, `"softmax"` or `"sigmoid"`.
    """

    def __init__(
        self, model: keras.Model, threshold: float, measure: str = "max_probability", heads: Any = ("softmax",), **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.model = model
        self.threshold = float(threshold)
        self.measure = choose("measure", measure, MEASURES)
        self.heads = list(heads)
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def call(self, given: Any, training: bool | None = None) -> Any:
        inputs, answers = given
        flat = keras.tree.flatten(answers)
        unsure = confidence(self.measure, flat, self.heads) < self.threshold
        if keras.backend.backend() != "tensorflow":
            asked = keras.tree.flatten(self.model(inputs, training=training))
            made = [ops.where(_like(unsure, old), ops.cast(new, old.dtype), old) for old, new in zip(flat, asked, strict=True)]
        elif flat[0].shape[0] == 1:
            made = self._one_row(inputs, flat, unsure, training)
        else:
            made = self._some_rows(inputs, flat, unsure, training)
        return keras.tree.pack_sequence_as(answers, made) if keras.tree.is_nested(answers) else made[0]

    def _one_row(self, inputs: Any, flat: list[Any], unsure: Any, training: bool | None) -> list[Any]:
        """The same of a batch that is known to be one row: nothing to pick, and all shapes stay known."""
        import tensorflow as tf

        def ask() -> list[Any]:
            asked = keras.tree.flatten(self.model(inputs, training=training))
            return [tf.cast(new, old.dtype) for old, new in zip(flat, asked, strict=True)]

        return tf.cond(unsure[0], ask, lambda: [tf.identity(old) for old in flat])  # type: ignore[no-any-return]

    def _some_rows(self, inputs: Any, flat: list[Any], unsure: Any, training: bool | None) -> list[Any]:
        import tensorflow as tf

        places = tf.where(unsure)

        def ask() -> list[Any]:
            rows = keras.tree.map_structure(lambda value: tf.gather_nd(_dense(value), places), inputs)
            asked = keras.tree.flatten(self.model(rows, training=training))
            return [tf.tensor_scatter_nd_update(old, places, tf.cast(new, old.dtype)) for old, new in zip(flat, asked, strict=True)]

        return tf.cond(tf.shape(places)[0] > 0, ask, lambda: [tf.identity(old) for old in flat])  # type: ignore[no-any-return]

    def compute_output_spec(self, given: Any, training: bool | None = None) -> Any:
        return keras.tree.map_structure(lambda answer: keras.KerasTensor(answer.shape, answer.dtype), given[1])

    def get_config(self) -> dict[str, Any]:
        model = keras.saving.serialize_keras_object(self.model)
        own = {"model": model, "threshold": self.threshold, "measure": self.measure, "heads": self.heads}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Escalate":
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})


def _dense(value: Any) -> Any:
    """`value`, whose gradient is dense: that of picked rows alone is sparse, and a `tf.cond` wants the same of both of its branches."""
    import tensorflow as tf

    return tf.reshape(value, tf.shape(value))


def _like(rows: Any, value: Any) -> Any:
    """`[rows]` with as many axes as `value`."""
    return ops.reshape(rows, (-1,) + (1,) * (len(value.shape) - 1))
