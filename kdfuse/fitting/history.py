"""The curves of a run, under the vocabulary of reports, told to the recorder as they grow."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kdfuse import recording


def curve(name: str) -> str:
    """The vocabulary's name of a Keras log: `val_accuracy` is `validation/accuracy`, `loss` is `train/loss`."""
    return f"validation/{name[4:]}" if name.startswith("val_") else f"train/{name}"


class History(keras.callbacks.Callback):
    """Collects every epoch's logs and sends them to the current run in one event.

    Attributes:
        values: a list for each curve, one value an epoch.
        validated: whether a validation split is measured.
    """

    def __init__(self, validated: bool) -> None:
        super().__init__()
        self.values: dict[str, list[float]] = {}
        self.validated = validated
        self.run = recording.current()
        self.before = self.run.counts.get("epochs", 0) if self.run is not None else 0

    def close(self) -> None:
        """After the last epoch: the run's next training, of a later round, is logged behind this one."""
        if self.run is not None:
            self.run.counts["epochs"] = self.before + max(map(len, self.values.values()), default=0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        values = {curve(name): float(np.asarray(value)) for name, value in (logs or {}).items() if np.ndim(value) == 0}
        values["train/learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)
        if self.run is not None:
            self.run.log(values, step=self.before + epoch)

    def get_state(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        return {"values": self.values}, []

    def set_state(self, state: dict[str, Any], arrays: list[np.ndarray]) -> None:
        self.values = state["values"]
