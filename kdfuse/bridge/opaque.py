"""A tf_keras layer that runs a Keras 3 layer or operation as it is, on the very variables that layer has."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kdfuse.bridge.imports import guests


class Slot:
    """The place of a tensor among the arguments of a call."""

    def __init__(self, index: int) -> None:
        self.index = index


class Held:
    """A Keras 3 layer or operation with the fixed part of its arguments.

    tf_keras must not see the layer itself: an attribute that it can track doubles the parameters. It sees this plain object,
    which copies of a config share.

    Args:
        operation: what is called.
        args: its positional arguments, with a `Slot` for each tensor.
        kwargs: its other arguments, likewise.
    """

    def __init__(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.operation, self.args, self.kwargs = operation, args, kwargs
        self.trains = isinstance(operation, keras.Layer) and operation._call_has_training_arg

    def __deepcopy__(self, memo: dict[int, Any]) -> "Held":
        return self

    def variables(self) -> list[tf.Variable]:
        """The layer's weights, without the states of seed generators."""
        return [weight.value for weight in self.operation.weights] if isinstance(self.operation, keras.Layer) else []

    def run(self, tensors: list[Any], training: Any) -> Any:
        """Call the operation on tensors."""

        def fill(value: Any) -> Any:
            return tensors[value.index] if isinstance(value, Slot) else value

        args, kwargs = keras.tree.map_structure(fill, self.args), keras.tree.map_structure(fill, self.kwargs)
        if not isinstance(self.operation, keras.Layer):
            return self.operation.call(*args, **kwargs)
        if self.trains:
            # While a graph is built tf_keras gives a symbolic flag, which no Keras 3 layer can branch on.
            kwargs["training"] = False if tf.is_tensor(training) else bool(training)
        return self.operation(*args, **kwargs)


@functools.cache
def opaque_class() -> Any:
    """The class of opaque layers. It is made late, since its base is a guest's."""
    base = guests().tf_keras.layers.Layer

    class Opaque(base):  # type: ignore[misc, valid-type]
        """Runs what it holds; its weights are those of the Keras 3 layer."""

        def __init__(self, held: Held, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.held = held
            self.shared = held.variables()
            self.supports_masking = True

        @tf.autograph.experimental.do_not_convert
        def call(self, inputs: Any, training: Any = None) -> Any:
            return self.held.run(tf.nest.flatten(inputs), training)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "held": self.held}

    return Opaque


def opaque(operation: Any, args: Any, kwargs: dict[str, Any], is_tensor: Callable[[Any], bool], name: str) -> tuple[Any, list[Any]]:
    """An opaque layer for one call, and the tensors to call it on.

    Args:
        operation: a Keras 3 layer or operation.
        args: its positional arguments, tensors of any kind among them.
        kwargs: its other arguments.
        is_tensor: tells tensors from fixed arguments.
        name: of the layer.
    """
    tensors: list[Any] = []

    def slot(value: Any) -> Any:
        if not is_tensor(value):
            return value
        tensors.append(value)
        return Slot(len(tensors) - 1)

    args, kwargs = keras.tree.map_structure(slot, args), keras.tree.map_structure(slot, kwargs)
    return opaque_class()(Held(operation, args, kwargs), name=name), tensors
