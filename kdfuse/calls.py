"""What a technique is called with: a model of Keras 3, a `Data`, and inputs that fit the one and the other."""

from typing import Any

import keras

from kdfuse.data import Data
from kdfuse.settings import quoted


def check_call(owner: str, model: Any, data: Any) -> None:
    """Raise unless a technique was given a Keras 3 model and a `Data`."""
    if isinstance(model, type) or (callable(model) and not isinstance(model, keras.Layer)):
        raise TypeError(f"`model` of {owner}: expected a keras.Model. Received the builder {model!r}. Call it first: builder(data).")
    if not isinstance(model, keras.Model):
        legacy = " It is a Keras 2 (tf_keras) model: build or load it with Keras 3." if "tf_keras" in type(model).__module__ else ""
        received = f"{type(model).__module__}.{type(model).__name__}"
        raise TypeError(f"`model` of {owner}: expected a keras.Model of Keras 3. Received: {received}.{legacy}")
    if not isinstance(data, Data):
        mend = "Wrap it: kdfuse.Data(train=(x, y), validation=0.1, test=(x_test, y_test))."
        raise TypeError(f"`data` of {owner}: expected a kdfuse.Data. Received: {type(data).__name__}. {mend}")


def check_inputs(owner: str, model: keras.Model, data: Data) -> None:
    """Raise unless a model that is built takes the inputs of the data. It runs on two rows where its declared inputs do not tell.

    Args:
        owner: the technique, for the error.
        model: only read.
        data: its first training rows are tried.

    Raises:
        ValueError: other shapes, or other inputs, than the model has.
    """
    if not model.built:
        return
    example, declared = data.example(2), getattr(model, "inputs", None) or []
    given = keras.tree.flatten(example)
    if len(declared) == len(given) and all(_fits(tuple(one.shape), tuple(two.shape)) for one, two in zip(declared, given, strict=True)):
        return
    try:
        model(example, training=False)
    except Exception as error:  # Keras raises many kinds here
        takes = [tuple(one.shape[1:]) for one in declared]
        shapes = (
            f"inputs of shape {takes[0] if len(takes) == 1 else takes}" if takes else f"others ({type(error).__name__}: {quoted(error)})"
        )
        raise ValueError(
            f"`model` of {owner}: expected a model that takes the inputs of `data`, of shape {data.input_shape}. Received: "
            f"{model.name!r}, which takes {shapes}. Change the data's x, or put a layer such as Reshape or Resizing in front of the model."
        ) from error


def _fits(declared: tuple[Any, ...], given: tuple[int, ...]) -> bool:
    return len(declared) == len(given) and all(one in (None, two) for one, two in zip(declared[1:], given[1:], strict=True))
