"""What the ways to make members ask of a `training`: that it is a trainer, and copies of it with other settings."""

import dataclasses
from typing import Any

from kdfuse.train import Train, Trainer


def check_training(training: Any) -> None:
    """Raise `TypeError` unless `training` is a trainer that ends in a `Train`: Train, or what holds one, such as Distill."""
    if isinstance(training, type) or not isinstance(training, Trainer) or not isinstance(_end(training), Train):
        raise TypeError(f"`training`: expected kdfuse.Train(...) or kdfuse.Distill(teacher). Received: {training!r}.")


def innermost(training: Any) -> Train:
    """The `Train` that a trainer fits with, which knows epochs, batch size and all else."""
    end = _end(training)
    assert isinstance(end, Train)
    return end


def with_train(training: Any, **changes: Any) -> Any:
    """A copy of a trainer, some settings of whose innermost `Train` are replaced."""
    if isinstance(training, Train):
        return dataclasses.replace(training, **changes)
    return dataclasses.replace(training, training=with_train(training.training, **changes))


def refuse_stopping(owner: str, training: Any, why: str) -> None:
    """Raise where the training may stop before its last epoch."""
    if innermost(training).stopping is not None:
        raise ValueError(
            f"`training` of {owner}: expected no `stopping`, for {why}. Received: {innermost(training).stopping!r}. Leave it out."
        )


def _end(training: Any) -> Any:
    seen = 0
    while not isinstance(training, Train) and hasattr(training, "training") and seen < 8:
        training, seen = training.training, seen + 1
    return training
