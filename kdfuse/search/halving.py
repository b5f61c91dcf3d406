"""Successive halving and Hyperband."""

import dataclasses
import math
from typing import Any

from kdfuse.search.candidate import Choice
from kdfuse.search.goals import ranked
from kdfuse.search.random import drawn
from kdfuse.search.search import Search, whole
from kdfuse.search.session import Session
from kdfuse.search.trial import Trial
from kdfuse.search.work import trains
from kdfuse.settings import settings
from kdfuse.technique import Technique
from kdfuse.train import Train


@settings
class HalvingSearch(Search):
    """Trains many candidates for few epochs and the best of them on: successive halving (Jamieson and Talwalkar 2016, AISTATS).

    Survivors go on from their weights, optimizer state and place in the order of the rows; the learning rate decays over `max_epochs` from
    the start, so the winner has been trained exactly as it would have been alone.

    Attributes:
        max_epochs: of the last rung, at least 1. It takes the place of the technique's own epochs.
        eta: one in `eta` candidates survives a rung, which has `eta` times the epochs; at least 2. With several objectives `eta` of them
            are trained to the end, so that there is a front.
        min_epochs: of the first rung; at least 1.
        n_trials: candidates at the first rung; None for `eta` to the power of the number of rungs, so that one is left.
        hyperband: also begins with fewer candidates at later rungs, for spaces in which the first epochs mislead (Li 2018, JMLR 18,
            Hyperband). `n_trials` must then be None.
    """

    max_epochs: int = 27
    eta: int = 3
    min_epochs: int = 1
    n_trials: int | None = None
    hyperband: bool = False
    refit: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("max_epochs", self.max_epochs, 1)
        whole("eta", self.eta, 2)
        whole("min_epochs", self.min_epochs, 1)
        if self.min_epochs > self.max_epochs:
            raise ValueError(f"`min_epochs`: expected at most max_epochs={self.max_epochs}. Received: min_epochs={self.min_epochs}.")
        if self.n_trials is not None:
            whole("n_trials", self.n_trials, 1)
        if self.hyperband and self.n_trials is not None:
            raise ValueError(f"`n_trials`: Hyperband has its own numbers. Received: n_trials={self.n_trials}. Give None.")

    def brackets(self) -> list[tuple[int, int]]:
        """For each bracket the number of candidates and the epochs of its first rung."""
        rungs = int(math.log(self.max_epochs / self.min_epochs, self.eta) + 1e-9)
        rungs = max(rungs, int(self.max_epochs > self.min_epochs))  # the last rung may have less than `eta` times the epochs
        if not self.hyperband:
            return [(self.n_trials or self.eta**rungs, self.min_epochs)]
        found = []
        for place in range(rungs, -1, -1):
            count = math.ceil((rungs + 1) / (place + 1) * self.eta**place)
            found.append((count, max(self.min_epochs, round(self.max_epochs / self.eta**place))))
        return found

    def expected(self, choice: Choice) -> int | None:
        return sum(count for count, _ in self.brackets())

    def check(self, model: object, data: object) -> None:
        super().check(model, data)  # type: ignore[arg-type]
        for technique in self._choice(model).techniques():
            if trains(technique) is None:
                name = type(technique).__name__
                raise TypeError(f"`technique`: halving goes on with Train or Distill. Received: {name}. Use RandomSearch for it.")
        taken = [name for name in self.space if name.rpartition("__")[2] == "epochs"]
        if taken:
            raise ValueError(f"`space`: {taken[0]!r} is what halving decides. Leave it out, and give max_epochs.")

    def _choice(self, build: object) -> Choice:
        choice = super()._choice(build)
        choice.technique = self._long(choice.technique)
        if "technique" in choice.space:
            choice.space.parts["technique"] = tuple(map(self._long, choice.space.choices("technique")))
        return choice

    def _long(self, technique: Any) -> Technique:
        if isinstance(technique, Train):
            return dataclasses.replace(technique, epochs=self.max_epochs)
        training = getattr(technique, "training", None)
        if not isinstance(training, Train):
            return technique
        return dataclasses.replace(technique, training=dataclasses.replace(training, epochs=self.max_epochs))

    def search(self, session: Session) -> None:
        first = 0
        for count, epochs in self.brackets():
            trials = list(drawn(session, count, self.seed, first))
            first = max([first, *(trial.number + 1 for trial in trials)])
            self._halve(session, trials, epochs)

    def _halve(self, session: Session, trials: list[Trial], epochs: int) -> None:
        """One bracket: rung after rung, until the last epoch."""
        alive, late = list(trials), False
        while alive:
            session.advance(alive, epochs, late)
            late = session.over()
            if epochs >= self.max_epochs or (late and session.fit()):
                break
            # Also those that ended before the search was interrupted, as they were at this rung.
            there = [trial for trial in alive if epochs in trial.rungs]
            if not there:
                break
            alive = [trial for trial in there if session.goals.breaks(trial.rungs[epochs]["metrics"]) is None] or there
            order = ranked([session.goals.values(trial.rungs[epochs]["metrics"]) for trial in alive])
            several = len(session.goals.objectives) > 1  # of one that is left there is no front
            count = 1 if late else max(self.eta if several else 1, len(alive) // self.eta)
            best = [alive[place] for place in order[:count]]
            for trial in trials:
                if trial.status == "open" and trial not in best:
                    session.end(trial, "stopped")
            # Once the time is up, the best alone goes on, and to the end: a search gives a model.
            alive, epochs = best, self.max_epochs if late else min(epochs * self.eta, self.max_epochs)
