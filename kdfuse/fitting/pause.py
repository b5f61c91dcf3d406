"""A training that pauses at an epoch, and goes on in another call."""

from collections.abc import Sequence
from typing import Any

import keras


class PauseAt(keras.callbacks.Callback):
    """Ends `fit` after an epoch. Its checkpoint is written, so that another `fit` of the same run goes on from there.

    Args:
        epoch: the epochs that are done then.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch + 1 >= self.epoch:
            self.model.stop_training = True


def pauses_at(callbacks: Sequence[keras.callbacks.Callback], epochs: int) -> int:
    """The epochs after which a training of so many pauses, for the first of its `PauseAt`."""
    return min([epochs, *(one.epoch for one in callbacks if isinstance(one, PauseAt))])
