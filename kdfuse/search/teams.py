"""Teams: trials of small dense networks that train side by side as a population."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.population.population import Population, why_not
from kdfuse.search.goals import Goals
from kdfuse.search.judge import judge
from kdfuse.search.trial import Trial
from kdfuse.train import Train

MOST = 64
"""Members of one team."""


class Team:
    """Trials that train together.

    Args:
        trials: with equally many epochs.
        data: without a test split.
        goals: what is measured.
    """

    def __init__(self, trials: Sequence[Trial], data: Data, goals: Goals) -> None:
        self.trials, self.data, self.goals = list(trials), data, goals
        trainings: list[Any] = [trial.candidate.technique for trial in trials]
        self.models = [_own(trial, data) for trial in trials]
        self.epochs = trainings[0].epochs
        self.population = Population(self.models, trainings, data)
        self.how = f"population of {len(trials)}"

    def advance(self, until: int | None) -> None:
        """Train those that are open, to an epoch or to the end, and measure them."""
        begun = time.perf_counter()
        places = [place for place, trial in enumerate(self.trials) if trial.status == "open"]
        if not places:
            return
        if len(places) < len(self.trials):
            self.population.keep(places)
            self.trials, self.models = [self.trials[place] for place in places], [self.models[place] for place in places]
        self.population.advance(min(until or self.epochs, self.epochs) - self.population.epoch)
        self.population.write()
        outputs = None if self.data.validation is None else self.population.outputs(self.data.validation)
        for place, (trial, model) in enumerate(zip(self.trials, self.models, strict=True)):
            training: Any = trial.candidate.technique
            trial.history, trial.epochs, trial.how = dict(self.population.curves[place]), self.population.epoch, self.how
            given = None if outputs is None else outputs[place]
            if given is not None and not np.isfinite(given).all():
                trial.error = "NonFiniteLoss: the outputs are not finite. A lower learning rate may help."
                continue
            trial.metrics = judge(model, self.data, self.goals, training.head, given, trial.structure)
            trial.model = training.public(model, self.data)
        seconds = (time.perf_counter() - begun) / len(self.trials)
        for trial in self.trials:
            trial.seconds += seconds


def _own(trial: Trial, data: Data) -> keras.Model:
    """A model that may be trained: what a builder made, or a copy of what the user gave or compiled."""
    technique: Any = trial.candidate.technique
    theirs = isinstance(trial.candidate.build, keras.Model) or trial.built.compiled
    return technique.private(trial.built, data) if theirs else trial.built


def teams(trials: Sequence[Trial], data: Data, goals: Goals) -> Iterator[Team]:
    """The trials that can train together, in teams; of the others it says why in their notes."""
    found: dict[int, list[Trial]] = {}
    for trial in trials:
        technique: Any = trial.candidate.technique
        reason = f"{type(technique).__name__} is not Train" if not isinstance(technique, Train) else why_not(trial.built, technique, data)
        if reason is None:
            found.setdefault(technique.epochs, []).append(trial)
        else:
            trial.alone = reason
    for members in found.values():
        for start in range(0, len(members), MOST):
            yield Team(members[start : start + MOST], data, goals)
