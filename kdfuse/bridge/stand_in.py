"""Let a tf_keras model stand in for a Keras 3 model while that is trained."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from kdfuse.bridge.replay import Pair, graph_of


@contextlib.contextmanager
def standing_in(model: keras.Model, other: Any, pairs: list[Pair], written: Sequence[tf.Variable] = ()) -> Iterator[None]:
    """Inside, calling `model` runs the tf_keras model `other`, and training `model` trains the variables of `other`.

    The variables of `model` take the tf.Variables of `other` as their values, so any optimizer, penalty, constraint, checkpoint and
    callback works on them. What `other` has beyond (ranges of quantizers, centroids) stands in `model.weights` after them, so it
    is kept and restored with them. At the end `model` runs itself again, with what was learnt in its own variables.

    Args:
        model: a private functional or sequential model.
        other: takes and gives the same flat lists of tensors. Its weights begin with the values of `model`.
        pairs: the variables of `model` with those of `other`; a pair of the same tf.Variable is shared already.
        written: variables of `other` that its forward pass writes: no optimizer is to touch them.
    """
    graph = graph_of(model)
    before = [(mine, mine._value) for mine, _ in pairs]
    lodger = _lodger(other, [theirs for _, theirs in pairs], written)

    def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        flat = graph._standardize_inputs(inputs)
        outputs = tf.nest.flatten(other(flat if len(flat) > 1 else flat[0], training=bool(training)))
        packed = keras.tree.pack_sequence_as(graph._outputs_struct, outputs)
        return packed[0] if isinstance(packed, list | tuple) and len(packed) == 1 else packed

    own = vars(model).get("call")
    for mine, theirs in pairs:
        if theirs is not mine._value:
            theirs.assign(mine._value)
            mine._value = theirs
    model._layers.append(lodger)
    vars(model)["call"] = call
    try:
        yield
    finally:
        if own is None:
            del vars(model)["call"]
        else:
            vars(model)["call"] = own
        model._layers.remove(lodger)
        for mine, value in before:
            if mine._value is not value:
                value.assign(mine._value)
                mine._value = value
        # What was traced holds the other model.
        model.train_function = model.test_function = model.predict_function = None


def _lodger(other: Any, known: Sequence[tf.Variable], written: Sequence[tf.Variable]) -> keras.Layer:
    """A layer that holds the variables of a tf_keras model that the Keras 3 model lacks."""
    lodger = keras.Layer(name="bridge_state")
    lodger.supports_jit = False  # quantizers assign ranges in the forward pass
    seen = {id(variable) for variable in known}
    state = []
    for weight in other.weights:
        if id(weight) not in seen:
            seen.add(id(weight))
            trained = weight.trainable and all(weight is not one for one in written)
            held = keras.Variable(weight.numpy(), trainable=trained, dtype=weight.dtype.name, name=_name(weight))
            held._value = weight
            state.append(held)
    lodger.state = state
    lodger.built = True
    return lodger


def _name(weight: Any) -> str:
    return str(weight.name).partition(":")[0].replace("/", "_")
