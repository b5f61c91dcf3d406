"""A teacher as a student meets it: a model with its head, what of its inside is read, and what it does to the inputs first."""

from collections.abc import Sequence
from typing import Any

import keras

from kdfuse.distill.lessons import Lesson
from kdfuse.distill.outputs import like, logits_of
from kdfuse.distill.structure import flat
from kdfuse.graph.taps import Taps


class Teacher:
    """Gives lessons; its model is run with `training=False` and left as it is.

    Args:
        model: a trained model that takes the inputs.
        head: what its outputs are, see `kdfuse.distill.outputs.logits_of`.
        layers: whose outputs the lessons carry as features, by the names of `kdfuse.graph.taps.Taps`.
        example: a batch of inputs, to look into a model without a graph.
    """

    def __init__(self, model: keras.Model, head: Any = "logits", layers: Sequence[str | None] = (), example: Any = None) -> None:
        self.model, self.head, self.layers = model, head, tuple(layers)
        self._taps = Taps(model, self.layers, example) if self.layers else None

    def __call__(self, inputs: Any) -> Lesson:
        """The lesson on a batch: one forward pass."""
        lesson: Lesson = {}
        if self._taps is None:
            outputs = self.model(inputs, training=False)
        else:
            with self._taps:
                self._taps.start()
                outputs = self.model(inputs, training=False)
                lesson["features"] = tuple(keras.ops.stop_gradient(features) for features in self._taps.values())
        logits = logits_of(outputs, self.head)
        lesson["logits"] = like(logits, [keras.ops.stop_gradient(leaf) for leaf in flat(logits)])
        # A model with activity regularisers would keep tensors of this graph.
        self.model._clear_losses()
        return lesson


@keras.saving.register_keras_serializable("kdfuse")
class Prepared(keras.Model):
    """A model behind layers of its own: another image size, another scale, other tokens.

    Args:
        preparation: a layer or model that makes the model's inputs.
        model: a built model; it is shared, not copied.
    """

    def __init__(self, preparation: keras.Layer, model: keras.Model, **kwargs: Any) -> None:
        super().__init__(**{"name": model.name, "autocast": False, **kwargs})
        self.preparation, self.model = preparation, model
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.model(self.preparation(inputs), training=training)

    def get_config(self) -> dict[str, Any]:
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("preparation", "model")}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Prepared":
        config = dict(config)
        for name in ("preparation", "model"):
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
        return cls(**config)
