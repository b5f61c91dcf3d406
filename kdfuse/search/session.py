"""A search that is going on: its trials, how they run, what is kept of them."""

import collections
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

import keras

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.export.keras_file import load_model, save_model
from kdfuse.graph.fingerprint import leaf
from kdfuse.home import write_atomic
from kdfuse.keys import forget, run_key
from kdfuse.report import Report, figure
from kdfuse.search.candidate import Candidate, Choice
from kdfuse.search.crew import outcomes
from kdfuse.search.early import bar
from kdfuse.search.goals import Goals, front
from kdfuse.search.idle import Idle, mark
from kdfuse.search.judge import structure
from kdfuse.search.ledger import Ledger
from kdfuse.search.memory import only_new
from kdfuse.search.progress import Progress
from kdfuse.search.teams import Team, alone, teams
from kdfuse.search.trial import Trial
from kdfuse.search.work import Job, Outcome, trains
from kdfuse.settings import flatten

BATCH = 8
"""Trials that are opened and run before the next ones, and before the bar is set anew below which these stop."""


class Session:
    """The trials of one search.

    Args:
        choice: what there is to choose.
        goals: what is wanted.
        data: without a test split.
        ledger: what is kept on disk.
        progress: on the terminal.
        n_jobs: trials at once, of those that run alone.
        vectorized: whether trials may train together.
        stop_hopeless: whether a trial stops below the median of those before it, where quality alone is wanted.
        live: whether models stay in memory, compiled: of trials that pause, and of trials that others are like. In this process only.
        over: whether the time is up.
    """

    def __init__(
        self, choice: Choice, goals: Goals, data: Data, ledger: Ledger, progress: Progress, *, n_jobs: int = 1, vectorized: bool = True,
        stop_hopeless: bool = False, live: bool = False, over: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.choice, self.goals, self.data, self.ledger, self.progress = choice, goals, data, ledger, progress
        self.n_jobs, self.vectorized, self.live, self.over = n_jobs, vectorized, live, over
        # A small model may be on the front for its size: it is no hopeless one because others are more accurate.
        self.stop_hopeless = stop_hopeless and all(name.startswith("validation/") for name in goals.objectives)
        self.trials: list[Trial] = []
        self.refused: collections.Counter[str] = collections.Counter()
        self.resumed, self.begun = 0, time.monotonic()
        self.best: list[float] = []
        """The best value of the first objective after each trial that ended."""
        self._teams: list[Team] = []
        self._kept: set[int] = set()
        self._idle, self._recorded = Idle(), not isinstance(recording.recorder(), recording.Silence)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        for trial in self.trials:
            if trial.run is not None:
                recording.finish(trial.run, "killed")
                trial.run = None

    def open(self, candidate: Candidate) -> Trial | None:
        """A trial for a candidate; None where its structure is beyond the limits.

        One that ended before the search was interrupted comes back as it ended. A builder that fails makes a failed trial, and so do
        settings that do not go together.
        """
        trial = Trial(candidate, error=candidate.error)
        trial.rungs = {rung: one for rung, one in self.ledger.rungs.get(candidate.number, {}).items() if trial.owns(one)}
        kept = self.ledger.kept.get(candidate.number)
        if kept is not None and self._comes_back(kept) and trial.restore(kept):
            self.trials.append(trial)
            self.resumed += 1
            self._keep(trial)
            self._count(trial)
            return trial
        try:
            if not trial.error and not self._prepared(trial):
                return None
        except Exception as error:
            trial.error = f"{type(error).__name__}: {error}"
        self.trials.append(trial)
        trial.run = recording.begin(trial.name, type(candidate.technique).__name__, candidate.texts(), trial.key)
        if trial.error:
            self.end(trial)
        return trial

    def _prepared(self, trial: Trial) -> bool:
        """Build a trial's model; False where that is beyond the limits."""
        candidate = trial.candidate
        trial.built = candidate.model(self.data)
        if not isinstance(trial.built, keras.Model):
            raise TypeError(f"the builder gave {type(trial.built).__name__}, not a keras.Model.")
        if trains(candidate.technique) is not None:
            trial.structure = structure(trial.built, self.data)
            why = self.goals.breaks(trial.structure)
            if why is not None:
                known = figure(why)
                self.refused[known.title if known is not None else why] += 1
                return False
        trial.alone = alone(trial, self.data) if self.vectorized else "vectorized=False"
        if trial.alone or self._recorded:  # else nobody has a use for it
            flat = flatten(candidate.technique, leaf=leaf)
            trial.key = run_key(type(candidate.technique).__name__, flat, trial.built, self.data)
        return True

    def run(self, trials: Iterable[Trial]) -> None:
        """Train trials to their end, opening a few at a time so that the first results come soon; workers are given all at once."""
        source, most = iter(trials), BATCH if self.n_jobs == 1 or self.stop_hopeless else None
        while turn := list(itertools.islice(source, most)):
            self.advance(turn)

    def advance(self, trials: Sequence[Trial], until: int | None = None, late: bool = False) -> None:
        """Train the open ones among `trials`, to an epoch or to their end, and measure them on validation.

        Args:
            trials: opened by this session.
            until: epochs; a trial that has more is then still open.
            late: also where the time is up.
        """
        left = [trial for trial in trials if trial.status == "open" and not self._known(trial, until)]
        members = {id(trial) for team in self._teams for trial in team.trials}
        fresh = [trial for trial in left if trial.built is not None and id(trial) not in members]
        self._teams += teams(fresh, self.data, self.goals, self.ledger.folder)
        together = {id(trial) for team in self._teams for trial in team.trials}
        for team in self._teams:
            if not self.over() or until is not None:
                team.advance(until)
                for trial in team.trials:
                    self._told(trial, until)
        self._teams = [team for team in self._teams if any(trial.status == "open" for trial in team.trials)]
        if together:
            self.ledger.sync()
        others = {id(trial) for trial in left} - together
        size = BATCH if self.stop_hopeless else max(1, len(trials))
        # The turns are cut with those that ended: a search that goes on has the turns of one that was not killed.
        for start in range(0, len(trials), size):
            turn = [trial for trial in trials[start : start + size] if id(trial) in others]
            if turn and (late or not self.over()):
                self._alone(turn, until, trials[start].number, late)

    def end(self, trial: Trial, status: str = "finished") -> None:
        """Close a trial: write it down, keep its model if it is on the front, end its run."""
        trial.status = "failed" if trial.error else status  # type: ignore[assignment]
        self._idle.put(trial.mark, trial.live)
        trial.built, trial.live, trial.ended = None, None, time.monotonic() - self.begun
        self._keep(trial)
        forget(trial.key)  # first, so that a kill in between leaves nothing behind: the trial runs again
        self.ledger.put(trial.kept())
        self._count(trial)
        run, trial.run = trial.run, None
        if run is None:
            return
        run.tag({"kdfuse.trial": trial.status, **({"kdfuse.error": trial.error[:500]} if trial.error else {})})
        if trial.status != "failed":
            run.report = Report(run.technique, dict(run.settings), trial.metrics, trial.history, notes=trial.notes, seconds=trial.seconds,
                                name=trial.name)  # fmt: skip
        if trial.how.startswith("population"):
            for epoch in range(trial.epochs or 0):
                run.log({name: values[epoch] for name, values in trial.history.items() if epoch < len(values)}, step=epoch)
        # The search's report has a table of trials in place of a child for each.
        recording.finish(run, "failed" if trial.status == "failed" else "finished", child=False)

    def fit(self) -> list[Trial]:
        """The trials that finished and keep the limits."""
        return [trial for trial in self.trials if trial.status == "finished" and self.goals.breaks(trial.metrics) is None]

    def front(self) -> list[Trial]:
        """The Pareto front of these, best in the first objective first."""
        found = self.fit()
        return [found[place] for place in front([self.goals.values(trial.metrics) for trial in found])]

    def model(self, trial: Trial) -> keras.Model:
        """The model of a trial on the front."""
        return trial.model if trial.model is not None else load_model(self.ledger.model(trial.number))

    def _known(self, trial: Trial, until: int | None) -> bool:
        """Whether a trial was at this rung before the search was interrupted; then it is as it was."""
        kept = None if until is None else trial.rungs.get(until)
        return kept is not None and trial.restore(kept)

    def _alone(self, trials: Sequence[Trial], until: int | None, first: int, late: bool) -> None:
        self._stack.enter_context(only_new())
        before = [one.history for one in self.trials if one.number < first and one.status == "finished" and one.how == "alone"]
        median = bar(before, 4) if self.stop_hopeless else None
        here = self.n_jobs == 1
        # In this process one after another: a model that has ended its trial is there for the next.
        for turn in [[trial] for trial in trials] if here else [list(trials)]:
            if self.over() and not late:
                break
            for place, outcome in outcomes([self._job(trial, until, median, here) for trial in turn], self.data, self.n_jobs):
                self._take(turn[place], outcome)
                self._told(turn[place], until, stopped=outcome.stopped)
                self.ledger.sync()
                if self.over() and not late:
                    break

    def _job(self, trial: Trial, until: int | None, median: tuple[str, list[float]] | None, here: bool) -> Job:
        candidate, built = trial.candidate, trial.built
        if here and built is not None:
            if self.live:
                trial.mark = mark(candidate, built)
                trial.live = self._idle.take(trial.mark, built) if trial.mark or until is not None else None
            candidate = dataclasses.replace(candidate, build=built, settings={})
        run = trial.run or recording.Run(trial.name, type(candidate.technique).__name__, candidate.texts(), trial.key)
        return Job(candidate, self.goals, run, until, median, grace=2, live=trial.live, shared=trial.mark is not None)

    def _take(self, trial: Trial, outcome: Outcome) -> None:
        trial.metrics, trial.history, trial.notes, trial.error = outcome.metrics, outcome.history, outcome.notes, outcome.error
        trial.seconds, trial.how, trial.built = trial.seconds + outcome.seconds, "alone", None
        curves = outcome.history.get("train/loss")
        trial.epochs = len(curves) if curves else None
        trial.model = outcome.model
        if isinstance(outcome.model, bytes):
            write_atomic(self.ledger.model(trial.number), outcome.model)
            trial.model = load_model(self.ledger.model(trial.number))

    def _told(self, trial: Trial, until: int | None, stopped: bool = False) -> None:
        """End a trial that has no epochs left; otherwise it stays open."""
        if trial.status != "open":
            return
        if not trial.error:
            try:
                self.goals.values(trial.metrics)
            except KeyError as error:
                raise ValueError(f"`maximize`, `minimize` and `limits`: {error.args[0]}") from None
        training = trains(trial.candidate.technique)
        if trial.error or stopped or until is None or training is None or until >= training.epochs:
            self.end(trial, "stopped" if stopped else "finished")
        else:
            trial.model = None
            self.ledger.put(trial.pause(until))

    def _keep(self, trial: Trial) -> None:
        """Keep the models of the front, and no others."""
        if trial.status != "finished":
            trial.model = None
            self.ledger.drop(trial.number)
            return
        kept = {one.number for one in self.front()}
        if trial.number in kept and trial.publish is not None:
            trial.model, trial.publish = trial.publish(trial.model, self.data), None
        if trial.number in kept and trial.model is not None and not self.ledger.model(trial.number).exists():
            save_model(trial.model, self.ledger.model(trial.number))
        for one in self.trials:
            if one.status == "finished" and one.number not in kept and (one is trial or one.number in self._kept):
                one.model = None
                self.ledger.drop(one.number)
        self._kept = kept

    def _comes_back(self, kept: dict[str, Any]) -> bool:
        """Whether a trial that ended can be taken as it ended: its model is there, or it is not needed."""
        needed = kept["status"] == "finished" and kept["number"] in self._front_of_kept()
        return not needed or self.ledger.model(kept["number"]).exists()

    def _front_of_kept(self) -> set[int]:
        rows = [kept for kept in self.ledger.kept.values() if kept["status"] == "finished" and self.goals.breaks(kept["metrics"]) is None]
        return {rows[place]["number"] for place in front([self.goals.values(kept["metrics"]) for kept in rows])}

    def _count(self, trial: Trial) -> None:
        found = [self.goals.values(one.metrics)[0] for one in self.fit()]
        if found:
            self.best.append(self.goals.signs[0] * max(found))
        self.progress.step(self.best[-1] if self.best else None)
