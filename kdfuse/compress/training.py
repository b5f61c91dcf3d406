"""What compression asks of a `training`: that it is a trainer, what of kdfuse stands for a TFMOT object, how long it runs."""

from typing import Any

import tensorflow as tf

from kdfuse.data import Data
from kdfuse.train import Train, Trainer


def check_training(training: Any) -> None:
    """Raise `TypeError` unless `training` is a trainer that ends in a `Train`: Train, or what holds one, such as Distill."""
    refuse_tfmot("training", training)
    if isinstance(training, type) or not isinstance(training, Trainer) or not isinstance(_end(training), Train):
        raise TypeError(f"`training`: expected kdfuse.Train(...) or kdfuse.Distill(teacher). Received: {training!r}.")


def check_afterwards(training: Any, control: Any) -> None:
    """Raise unless `training` is what a changed model can be trained with afterwards, and is there where a control asks for it.

    Args:
        training: a trainer, `"auto"`, or None for none.
        control: whether the same changed model is also trained from new weights.
    """
    known = training is None or training == "auto" or (isinstance(training, Trainer) and not isinstance(training, type))
    if not known:
        raise TypeError(f"`training`: expected kdfuse.Train(...), kdfuse.Distill(...), 'auto' or None. Received: {training!r}.")
    if not isinstance(control, bool):
        raise ValueError(f"`control`: expected True or False. Received: control={control!r}.")
    if control and training is None:
        raise ValueError("`control`: expected a `training` for the control to be trained with. Received: control=True without training.")


def innermost(training: Trainer) -> Train:
    """The `Train` that a trainer fits with, which knows epochs, batch size and all else."""
    end = _end(training)
    assert isinstance(end, Train)
    return end


def run_steps(training: Trainer, data: Data) -> int | None:
    """The steps of a whole run; None for a stream that does not tell its length."""
    train = innermost(training)
    steps = data.train.steps(train.batch_size)
    return None if steps is None else steps * train.epochs


def needs_steps_apart(train: Train) -> bool:
    """Whether Python must come between two steps: XLA runs no NumPy inside a step, and several devices have no common one."""
    jit = train.jit is True or (train.jit == "auto" and any(device.device_type != "CPU" for device in tf.config.list_physical_devices()))
    return jit or train.strategy is not None


def refuse_tfmot(argument: str, value: Any) -> None:
    """Raise `TypeError` for an object of TFMOT, or a list that holds one, and say what takes its place."""
    for one in value if isinstance(value, list | tuple) else [value]:
        kind = one if isinstance(one, type) else type(one)
        if "tensorflow_model_optimization" in kind.__module__:
            raise TypeError(
                f"`{argument}`: {kind.__name__} belongs to TFMOT, which works on tf_keras models alone; in Keras 3 it would do nothing. "
                f"{_instead(kind.__name__, one)}"
            )


def _instead(name: str, value: Any) -> str:
    given = vars(value) if not isinstance(value, type) else {}
    numbers = {new: given[old] for old, new in _NAMES.items() if old in given and (old, given[old]) != ("end_step", -1)}
    text = ", ".join(f"{new}={number}" for new, number in numbers.items())
    if name == "PolynomialDecay":
        return f"Give kdfuse.Prune({given.get('final_sparsity', 0.9)}, schedule=kdfuse.PolynomialSparsity({text}))."
    if name == "ConstantSparsity":
        return f"Give kdfuse.Prune({given.get('target_sparsity', 0.9)}, schedule=kdfuse.ConstantSparsity({text}))."
    if "Prun" in name:
        return "kdfuse.Prune needs no callback and no wrapper: leave it out."
    return "Leave it out: kdfuse.Prune does all by itself."


_NAMES = {"initial_sparsity": "initial", "begin_step": "begin", "end_step": "end", "frequency": "frequency", "power": "power"}


def _end(training: Any) -> Any:
    seen = 0
    while not isinstance(training, Train) and hasattr(training, "training") and seen < 8:
        training, seen = training.training, seen + 1
    return training
