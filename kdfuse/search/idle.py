"""Compiled models whose trials have ended: one of them can train the next trial of the same structure, without being traced again."""

from collections import OrderedDict
from typing import Any

import keras

from kdfuse.fitting.decay import make_decay, needs_steps
from kdfuse.fitting.live import Live
from kdfuse.graph.fingerprint import leaf, structure_mark
from kdfuse.search.candidate import Candidate
from kdfuse.settings import flatten
from kdfuse.train import Train

MOST = 8
"""Models that wait; the one that waits longest goes first."""


class Idle:
    """The models that wait for a trial."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Live] = OrderedDict()

    def put(self, mark: str | None, live: Live | None) -> None:
        """Let a trial's model wait for another one."""
        if mark is not None and live is not None and live.fitted is not None:
            self._waiting[mark] = live
            self._waiting.move_to_end(mark)
            while len(self._waiting) > MOST:
                self._waiting.popitem(last=False)

    def take(self, mark: str | None, model: keras.Model) -> Live:
        """A training for a trial: one that waited, with the weights of `model`, or an empty one."""
        live = self._waiting.pop(mark, None) if mark is not None else None
        if live is None:
            return Live()
        live.begin_again(model.get_weights())
        return live


def mark(candidate: Candidate, model: keras.Model) -> str | None:
    """What two trials have in common that one compiled model can train in turn: all but learning rate, seeds and weights.

    Args:
        candidate: of a trial that trains alone, in this process.
        model: what its builder made.

    Returns:
        A text; None where the model must be compiled for this trial: the technique is not `Train`, the loss scale of float16 or a decay by
        steps is in the graph, or the model is the user's or came compiled.
    """
    training: Any = candidate.technique
    if type(training) is not Train or isinstance(candidate.build, keras.Model) or model.compiled:
        return None
    if training.precision == "mixed_float16" or training.strategy is not None or not isinstance(training.optimizer, str):
        return None
    own = {"seed"} if needs_steps(make_decay(training.decay)) else {"seed", "learning_rate"}
    flat: dict[str, Any] = {name: value for name, value in flatten(training, leaf=leaf).items() if name not in own}
    return f"{structure_mark(model)} {sorted((name, repr(value)) for name, value in flat.items())}"
