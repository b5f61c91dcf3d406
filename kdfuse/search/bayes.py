"""Bayesian search, with Optuna's samplers."""

import warnings
from typing import Any

import optuna

from kdfuse.search.search import Search, whole
from kdfuse.search.session import Session
from kdfuse.search.suggest import suggest
from kdfuse.search.trial import Trial
from kdfuse.settings import choose, settings

DRAWS = 20
"""Batches for each one wanted, before the search gives up on candidates within the limits."""
DULL = 10
"""Batches in a row that bring nothing new, before a space counts as tried whole."""


@settings
class BayesSearch(Search):
    """Asks Optuna for candidates near those that did well.

    Candidates are asked for in batches of one size, so that the same seed gives the same candidates whatever `n_jobs` is.

    Attributes:
        n_trials: different candidates to train, at least 1. What is asked for again is not trained again, and a space with fewer of them
            is tried whole.
        batch: candidates asked for at once, at least 1.
        sampler: `tpe` (Bergstra 2011, NeurIPS 24), `nsga2` (Deb 2002) for several objectives, or `auto`: the one that fits.
        stop_hopeless: where quality alone is wanted, a trial that trains alone stops once its best validation accuracy so far is below
            the median of earlier ones at that epoch.
    """

    n_trials: int = 40
    batch: int = 8
    sampler: str = "auto"
    stop_hopeless: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("n_trials", self.n_trials, 1)
        whole("batch", self.batch, 1)
        choose("sampler", self.sampler, ("auto", "tpe", "nsga2"))

    def search(self, session: Session) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(directions=["maximize"] * len(session.goals.objectives), sampler=self._sampler(session))
        known: dict[str, Trial | None] = {}
        number = opened = dull = 0
        while opened < self.n_trials and number < DRAWS * self.n_trials and dull < DULL and not session.over():
            turn: list[tuple[optuna.Trial, Trial | None]] = []
            fresh: list[Trial] = []
            for _ in range(min(self.batch, self.n_trials - opened)):
                told = study.ask()
                candidate = session.choice.candidate(number, lambda name, told=told: suggest(told, name, session.choice.space))  # type: ignore[misc]
                number += 1
                mark = repr(candidate.texts())
                if mark not in known:
                    known[mark] = trial = session.open(candidate)
                    fresh += [trial] if trial is not None else []
                turn.append((told, known[mark]))
            session.advance(fresh)
            for told, trial in turn:
                if trial is not None and trial.status in ("finished", "stopped") and session.goals.breaks(trial.metrics) is None:
                    study.tell(told, session.goals.values(trial.metrics))
                else:
                    study.tell(told, state=optuna.trial.TrialState.FAIL)
            opened, dull = opened + len(fresh), 0 if fresh else dull + 1

    def _sampler(self, session: Session) -> Any:
        several = len(session.goals.objectives) > 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self.sampler == "nsga2" or (self.sampler == "auto" and several):
                return optuna.samplers.NSGAIISampler(population_size=max(2, min(50, self.n_trials // 4)), seed=self.seed)
            return optuna.samplers.TPESampler(seed=self.seed, n_startup_trials=min(10, max(1, self.n_trials // 4)))
