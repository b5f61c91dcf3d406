"""Teams: trials of small dense networks that train side by side as a population."""

import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.fitting.checkpoint import State, read, write
from kdfuse.population.population import Population, why_not
from kdfuse.search.goals import Goals
from kdfuse.search.judge import judge, passed
from kdfuse.search.trial import Trial
from kdfuse.train import Train

MOST = 64
"""Members of one team."""
EVERY = 30.0
"""Seconds after which a team that still trains writes down where it is."""


class Team:
    """Trials that train together.

    Args:
        trials: with equally many epochs.
        data: without a test split.
        goals: what is measured.
        folder: where a long training is written down, and gone on from after it was killed. None: nowhere.
    """

    def __init__(self, trials: Sequence[Trial], data: Data, goals: Goals, folder: Path | None = None) -> None:
        self.trials, self.data, self.goals = list(trials), data, goals
        self.file = None if folder is None else folder / f"team-{trials[0].number}.ckpt"
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
        self._train(min(until or self.epochs, self.epochs))
        self.population.write()
        held = self.data.validation
        outputs = None if held is None else self.population.outputs(held)
        for place, (trial, model) in enumerate(zip(self.trials, self.models, strict=True)):
            training: Any = trial.candidate.technique
            trial.history, trial.how = dict(self.population.curves[place]), self.how
            losses = trial.history["train/loss"]
            trial.epochs = len(losses)
            given = None if outputs is None else outputs[place]
            if not np.isfinite(losses).all() or (given is not None and not np.isfinite(given).all()):
                trial.error = "NonFiniteLoss: the loss or the outputs are not finite. A lower learning rate may help."
                continue
            done = None if given is None or held is None else passed(given, held)
            trial.metrics = judge(model, self.data, self.goals, training.head, done, trial.structure)
            if self.population.epoch >= self.epochs:
                trial.model, trial.publish = model, training.public
                if trial.epochs < self.epochs:
                    trial.notes = [*trial.notes, f"Stopped early after {trial.epochs} of {self.epochs} epochs."]
        seconds = (time.perf_counter() - begun) / len(self.trials)
        for trial in self.trials:
            trial.seconds += seconds
        if self.file is not None and self.population.epoch >= self.epochs:
            self.file.unlink(missing_ok=True)

    def _train(self, until: int) -> None:
        """Train to an epoch, in slices of about `EVERY` seconds, each written down."""
        if self.population.epoch == 0 and self.file is not None:
            self._resume(until)
        epochs = 1
        while self.population.epoch < until:
            begun = time.perf_counter()
            self.population.advance(min(epochs, until - self.population.epoch))
            seconds = time.perf_counter() - begun
            if seconds * 4 < EVERY:  # soon done, or too soon to write: a longer slice
                epochs *= 4
            elif self.file is not None:
                self._write(self.file)

    def _write(self, file: Path) -> None:
        state = self.population.state()
        state.meta["numbers"] = [trial.number for trial in self.trials]
        try:
            write(file, state)
        except OSError as error:
            warnings.warn(f"Where {self.how} is could not be written down; training goes on. {error}", stacklevel=2)

    def _resume(self, until: int) -> None:
        """Go on from what was written down of these trials, and perhaps of others that have ended since."""
        assert self.file is not None
        wanted = [trial.number for trial in self.trials]
        for file in sorted(self.file.parent.glob("team-*.ckpt")):
            try:
                state = read(file)
            except (ValueError, OSError, KeyError) as error:
                warnings.warn(f"What was written down of a team is damaged and left out: {error}", stacklevel=2)
                continue
            places = {number: place for place, number in enumerate(state.meta["numbers"])}
            if set(wanted) <= set(places) and state.meta["epoch"] <= until:
                self.population.restore(_of(state, [places[number] for number in wanted]))
                for trial in self.trials:
                    trial.notes = [*trial.notes, f"Resumed at epoch {self.population.epoch + 1} of {self.epochs}."]
                return


def _of(state: State, places: Sequence[int]) -> State:
    """The state of some of a population's members, in this order."""
    arrays = {f"member-{new}": state.arrays[f"member-{old}"] for new, old in enumerate(places)}
    return State({**state.meta, "curves": [state.meta["curves"][place] for place in places]}, arrays)


def _own(trial: Trial, data: Data) -> keras.Model:
    """A model that may be trained: what a builder made, or a copy of what the user gave or compiled."""
    technique: Any = trial.candidate.technique
    theirs = isinstance(trial.candidate.build, keras.Model) or trial.built.compiled
    return technique.private(trial.built, data) if theirs else trial.built


def alone(trial: Trial, data: Data) -> str:
    """Why a trial cannot train together with others, as the end of a sentence; empty where it can."""
    technique: Any = trial.candidate.technique
    return why_not(trial.built, technique, data) or "" if isinstance(technique, Train) else f"{type(technique).__name__} is not Train"


def teams(trials: Sequence[Trial], data: Data, goals: Goals, folder: Path | None = None) -> Iterator[Team]:
    """The trials that can train together, in teams."""
    found: dict[int, list[Trial]] = {}
    for trial in trials:
        if not trial.alone:
            technique: Any = trial.candidate.technique
            found.setdefault(technique.epochs, []).append(trial)
    for members in found.values():
        for start in range(0, len(members), MOST):
            yield Team(members[start : start + MOST], data, goals, folder)
