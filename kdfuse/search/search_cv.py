"""SearchCV: random, grid and Bayesian search with cross-validation over any scikit-learn estimator."""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import joblib
import numpy as np
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import check_random_state

from kdfuse import recording
from kdfuse.report import Report
from kdfuse.search.conditional import Conditional
from kdfuse.search.goals import front
from kdfuse.search.rows import Rows
from kdfuse.search.space import label
from kdfuse.search.study import Study, told
from kdfuse.search.workers import safe_workers
from kdfuse.settings import choose

SHOWN = 10
"""Candidates in the table that a report prints."""
STRATEGIES = ("random", "bayes", "grid")


class SearchCV(BaseSearchCV):
    """Search with cross-validation, as `RandomizedSearchCV` and `GridSearchCV`, and with Optuna's samplers.

    Candidates come in batches of one size, each a function of the seed and of earlier results: `n_jobs` changes the time alone. A setting
    that the chosen builder or step does not have is left out for it.

    Args:
        estimator: any scikit-learn estimator, also a pipeline.
        space: parameter names to what they may be: a list of choices, `Int`, `Float`, a distribution of `scipy.stats`, or one value.
        strategy: `random`; `bayes` for Optuna's TPE (Bergstra 2011, NeurIPS 24); `grid` for every combination.
        n_trials: candidates; None for 20, and for all of a grid.
        points: into how many values a grid divides a range.
        batch: candidates asked for at once, at least 1.
        scoring: as in scikit-learn: a name, a callable, or several under names. Of several, `bayes` works for the one that `refit` names;
            where it names none, for all of them at once with NSGA-II (Deb 2002).
        refit: whether the best candidate is fitted on all rows; of several scores, the name of the one that decides, or a callable.
        cv: folds, as in scikit-learn; classifiers get stratified ones.
        n_jobs: workers of joblib; None for one.
        random_state: of the candidates.
        error_score: the score of a fit that failed, or `raise`.
        return_train_score: also score on the training rows.
        timeout: seconds after which no further batch begins; None for no limit.
        storage: an Optuna storage or its URL, such as `sqlite:///search.db`. A search that is made again with the same estimator, space,
            data, folds, scores, strategy and seed goes on where it was, and `cv_results_` holds all of it.
        study_name: of the study in the storage; None for one made from the search itself. One process at a time writes to a study.
        verbose: as in scikit-learn.
        pre_dispatch: as in scikit-learn.

    Attributes:
        cv_results_: a row for each candidate, as in scikit-learn.
        best_params_, best_score_, best_index_, best_estimator_: the winner.
        front_: of several scores, the rows that no other beats in one score without losing in another, best in the first score first.
        report_: table and winner as a `kdfuse.Report`.

    Raises:
        ValueError: an unknown name in the space or another setting out of range; nothing was fitted.
    """

    def __init__(
        self,
        estimator: Any,
        space: Any,
        *,
        strategy: str = "random",
        n_trials: int | None = None,
        points: int = 3,
        batch: int = 4,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        timeout: float | None = None,
        storage: Any = None,
        study_name: str | None = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
    ) -> None:
        super().__init__(
            estimator, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv, verbose=verbose, pre_dispatch=pre_dispatch,
            error_score=error_score, return_train_score=return_train_score,
        )  # fmt: skip
        self.space, self.strategy, self.n_trials, self.points, self.batch = space, strategy, n_trials, points, batch
        self.random_state, self.timeout, self.storage, self.study_name = random_state, timeout, storage, study_name

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Search, and fit the winner on all rows.

        Args:
            X: rows.
            y: labels or targets.
            **params: for the estimator's `fit`, the scorers and the splitter, as in scikit-learn.
        """
        self._check()
        space = Conditional(self.estimator, self.space)
        keras = any(hasattr(one, "takes_setting") for one in (self.estimator, *self.estimator.get_params().values()))
        settings = {"strategy": self.strategy, **{f"space__{name}": label(part) for name, part in space.space.parts.items()}}
        with recording.run("SearchCV", "SearchCV", settings) as run, safe_workers(self.n_jobs, threads_unsafe=keras):
            begun = time.perf_counter()
            self._search = (space, begun, joblib.hash([X, y, params]) if self.storage is not None else None)
            try:
                super().fit(X, y, **params)
            finally:
                del self._search
            metrics = {"cv/score": float(self.best_score_)} if hasattr(self, "best_score_") else {}
            rows = [_row(self.cv_results_, place) for place in range(len(self.cv_results_["params"]))]
            ranks = self.cv_results_[f"rank_test_{_decisive(self.refit, self.cv_results_)}"]
            best = [rows[place] for place in np.argsort(ranks, kind="stable")[:SHOWN]]
            self.report_ = run.report = Report("SearchCV", settings, metrics, tables={"models": best, "trials": rows}, name=run.name)
            self.report_.children, self.report_.seconds = list(run.children), time.perf_counter() - begun
        if self.multimetric_:
            names = _metrics(self.cv_results_)
            values = np.nan_to_num(np.array([self.cv_results_[f"mean_test_{name}"] for name in names]).T, nan=-np.inf)
            self.front_ = front([tuple(row) for row in values.tolist()])
        return self

    def _run_search(self, evaluate_candidates: Callable[..., Any]) -> None:
        space, begun, data = self._search
        objectives = self._objectives()
        state = self.random_state
        seed = int(state) if isinstance(state, int | np.integer) else int(check_random_state(state).randint(2**31 - 1))
        study = Study(
            space, self.strategy, len(objectives) or 1, seed=seed, points=self.points, storage=self.storage, name=self._name(data)
        )
        rows, done = None, 0
        if self.storage is not None:
            rows = Rows(evaluate_candidates, self._format_results, self.n_splits_)
            kept = study.rows()
            done = len(kept)
            if kept:
                rows.put_back(kept)
        wanted = self.n_trials if self.n_trials is not None else None if self.strategy == "grid" else 20
        failure: ValueError | None = None
        tried = done
        while wanted is None or tried < wanted:
            if self.timeout is not None and time.perf_counter() - begun >= self.timeout and done:
                break
            turn = study.ask(self.batch if wanted is None else min(self.batch, wanted - tried))
            if not turn:
                break
            tried += len(turn)
            try:
                with recording.silence():
                    results = evaluate_candidates([params for _, params in turn])
            except ValueError as error:
                if "fits failed" not in str(error):
                    raise
                failure = error  # scikit-learn raises where every fit of a batch failed; later batches may do better
                warnings.warn(f"Every fit of {len(turn)} candidates failed; they are left out. {_reason(error)}", stacklevel=2)
                for trial, _ in turn:
                    study.failed(trial)
                continue
            names = objectives or [_decisive(self.refit, results)]
            for place, (trial, params) in enumerate(turn, start=len(results["params"]) - len(turn)):
                values = [float(results[f"mean_test_{name}"][place]) for name in names]
                study.tell(trial, params, values, rows.folds(place) if rows is not None else [])
                with recording.run(f"trial {place}", "trial", space.texts(params)) as one:
                    one.log({f"cv/{name}": value for name, value in _scores(results, place).items() if np.isfinite(value)})
            done += len(turn)
        if not done:
            raise failure or ValueError("`space`: there was no candidate to evaluate.")

    def _objectives(self) -> list[str]:
        """The scores that the search works for; none where they are known only once a callable has scored."""
        if self.scoring is None or isinstance(self.scoring, str) or callable(self.scoring):
            return []
        return [self.refit] if isinstance(self.refit, str) else list(self.scoring)

    def _name(self, data: str | None) -> str | None:
        if data is None or self.study_name is not None:
            return self.study_name
        ignored = ("n_trials", "batch", "n_jobs", "timeout", "storage", "study_name", "verbose", "pre_dispatch", "error_score")
        own = {name: value for name, value in self.get_params(deep=False).items() if name not in ignored}
        mark = json.dumps([told({**own, "space": self._search[0].space.parts}), data])
        return f"SearchCV-{hashlib.sha256(mark.encode()).hexdigest()[:16]}"

    def _check(self) -> None:
        choose("strategy", self.strategy, STRATEGIES)
        for name, least in (("n_trials", 1), ("points", 1), ("batch", 1)):
            value = getattr(self, name)
            if (value is not None or name != "n_trials") and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"`{name}`: expected an integer of at least {least}. Received: {name}={value!r}.")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"`timeout`: expected seconds above 0, or None. Received: timeout={self.timeout!r}.")
        several = not (self.scoring is None or isinstance(self.scoring, str) or callable(self.scoring))
        if self.study_name is not None and self.storage is None:
            raise ValueError(f"`study_name`: expected a `storage` that holds it. Received: study_name={self.study_name!r}, storage=None.")
        if several and self.refit is True:
            raise ValueError(
                f"`refit`: of several scores, name the one that decides, or give False. Received: refit=True, scoring={self.scoring!r}."
            )


def _metrics(results: Mapping[str, Any]) -> list[str]:
    return [name[10:] for name in results if name.startswith("mean_test_")]


def _decisive(refit: Any, results: Mapping[str, Any]) -> str:
    """The score that the search works for, where a callable told the names."""
    names = _metrics(results)
    return refit if refit in names else names[0]


def _scores(results: Mapping[str, Any], row: int) -> dict[str, float]:
    return {name: float(results[f"mean_test_{name}"][row]) for name in _metrics(results)}


def _row(results: Mapping[str, Any], row: int) -> dict[str, Any]:
    """A line of the table of trials."""
    chosen = results["params"][row].items()
    params = {name: value if isinstance(value, bool | int | float | str) else label(value) for name, value in chosen}
    scores: dict[str, float] = {}
    for name in _metrics(results):
        scores |= {f"cv/{name}": float(results[f"mean_test_{name}"][row]), f"sd/cv/{name}": float(results[f"std_test_{name}"][row])}
    return {"model": f"trial {row}", **params, **scores, "seconds": round(float(results["mean_fit_time"][row]), 3)}


def _reason(error: Exception) -> str:
    """The last line of the traceback that scikit-learn's error quotes."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
