"""Optimizers by name, or copies of the user's own."""

from typing import Any, TypeAlias

import keras

from kdfuse.settings import choose

NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "nadam": ("Nadam", {}),
    "adamax": ("Adamax", {}),
    "rmsprop": ("RMSprop", {}),
    "adagrad": ("Adagrad", {}),
    "adadelta": ("Adadelta", {}),
    "adafactor": ("Adafactor", {}),
    "lion": ("Lion", {}),
    "lamb": ("Lamb", {}),
    "ftrl": ("Ftrl", {}),
}
"""Names that `Train(optimizer=...)` takes; `momentum` and `nesterov` are SGD with momentum 0.9."""

Optimizer: TypeAlias = keras.optimizers.Optimizer
Schedule: TypeAlias = keras.optimizers.schedules.LearningRateSchedule


def make_optimizer(optimizer: str | Optimizer, learning_rate: "float | Schedule | None" = None) -> Optimizer:
    """A new, unbuilt optimizer.

    Args:
        optimizer: one of `NAMES`, or an optimizer object, which is copied and stays as it is.
        learning_rate: replaces the optimizer's own where it is given.

    Raises:
        ValueError: the name is unknown.
    """
    if isinstance(optimizer, str):
        class_name, config = NAMES[choose("optimizer", optimizer, NAMES)]
        made = getattr(keras.optimizers, class_name)(**config)
    else:
        made = optimizer
    config = made.get_config()
    if learning_rate is not None:
        config["learning_rate"] = learning_rate
    return type(made).from_config(config)


def check_optimizer(optimizer: Any, learning_rate: Any) -> None:
    """Check the two settings before any training.

    Raises:
        ValueError: an unknown name, or a learning rate that is not a positive number.
        TypeError: neither a name nor a Keras optimizer.
    """
    if isinstance(optimizer, str):
        choose("optimizer", optimizer, NAMES)
    elif not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            f"`optimizer`: expected a name ({', '.join(NAMES)}) or a keras.optimizers.Optimizer object. Received: {optimizer!r}."
            + (" Give an object, not its class." if isinstance(optimizer, type) else "")
        )
    is_number = isinstance(learning_rate, int | float) and not isinstance(learning_rate, bool)
    if learning_rate is not None and not (is_number and learning_rate > 0):
        raise ValueError(
            f"`learning_rate`: expected a number above 0, or None for the optimizer's own. Received: {learning_rate!r}. "
            "A learning rate that changes is set by `decay`."
        )


def base_rate(optimizer: str | Optimizer, learning_rate: float | None) -> "float | Schedule":
    """The learning rate that training starts from: the given one, else the optimizer's own (a number or a schedule)."""
    if learning_rate is not None:
        return float(learning_rate)
    own = make_optimizer(optimizer).get_config()["learning_rate"]
    if isinstance(own, int | float):
        return float(own)
    return keras.optimizers.schedules.deserialize(own) if isinstance(own, dict) else own
