"""Study: what a `SearchCV` has tried, kept by Optuna, and what it tries next."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna

from kdfuse.graph.fingerprint import leaf
from kdfuse.search.conditional import Conditional
from kdfuse.search.space import Float, Int, label, seeded
from kdfuse.search.suggest import suggest
from kdfuse.settings import flatten

ATTRIBUTE = "kdfuse"
STARTUP = 10
"""Candidates drawn at random before a sampler learns from them."""


class Study:
    """Candidates of one search in an Optuna study.

    Each batch is a function of the seed and of what the study holds, so that a resumed search goes on as an uninterrupted one.

    Args:
        space: where the candidates come from.
        strategy: `random`, `grid` or `bayes`.
        objectives: how many.
        seed: of the draws.
        points: of a range in a grid.
        storage: an Optuna storage or its URL, such as `sqlite:///search.db`; None for memory.
        name: of the study in the storage.

    Raises:
        ValueError: the study in the storage is of another search.
    """

    def __init__(
        self,
        space: Conditional,
        strategy: str,
        objectives: int,
        *,
        seed: int,
        points: int = 3,
        storage: Any = None,
        name: str | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.strategy, self.objectives, self.seed = space, strategy, objectives, seed
        self.study = optuna.create_study(
            storage=storage, study_name=name, load_if_exists=storage is not None, directions=["maximize"] * objectives
        )
        if len(self.study.directions) != objectives:
            raise ValueError(f"`study_name`: {name!r} has {len(self.study.directions)} objectives, this search {objectives}. Give another.")
        state = optuna.trial.TrialState  # what a process left that was killed: no sampler is to wait for it
        for trial in self.study.get_trials(deepcopy=False, states=(state.RUNNING,)):
            self.study.tell(trial.number, state=state.FAIL)
        for _ in self.study.get_trials(deepcopy=False, states=(state.WAITING,)):
            self.study.tell(self.study.ask(), state=state.FAIL)
        self._seen = {space.mark(params) for params, _ in self.rows()}
        self._queue: Iterator[dict[str, Any]] = iter(())
        if strategy != "bayes":
            self._queue = space.drawn(seed) if strategy == "random" else space.every(points)

    def rows(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """The candidates that were evaluated before, in order: params, and what each fold gave."""
        kept = [trial.user_attrs[ATTRIBUTE] for trial in self.study.get_trials(deepcopy=False) if ATTRIBUTE in trial.user_attrs]
        try:
            return [(self.space.values(one["params"]), one["folds"]) for one in map(json.loads, kept)]
        except KeyError as error:
            said = f"the study {self.study.study_name!r} in the storage has {error}, which this space has not"
            raise ValueError(f"`study_name`: {said}. Give another name, or the space of that search.") from None

    def ask(self, count: int) -> list[tuple[optuna.Trial, dict[str, Any]]]:
        """At most `count` candidates to evaluate next; none when the space was tried whole."""
        if self.strategy != "bayes":
            return [(self._noted(params), params) for params in self._next(count)]
        self.study.sampler = self._sampler()
        asked = [self.study.ask() for _ in range(count)]
        return [(trial, self.space.params(lambda name, trial=trial: suggest(trial, name, self.space.space))) for trial in asked]  # type: ignore[misc]

    def tell(self, trial: optuna.Trial, params: dict[str, Any], values: Sequence[float], folds: Sequence[dict[str, Any]]) -> None:
        """Keep what became of a candidate. Values that are not finite count as a failure."""
        kept = {"params": self.space.texts(params), "folds": [_plain(fold) for fold in folds]}
        trial.set_user_attr(ATTRIBUTE, json.dumps(kept))
        if all(value == value and abs(value) != float("inf") for value in values):
            self.study.tell(trial, list(map(float, values)))
        else:
            self.failed(trial)

    def failed(self, trial: optuna.Trial) -> None:
        """A candidate that could not be evaluated."""
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _next(self, count: int) -> Iterator[dict[str, Any]]:
        while count:
            params = next(self._queue, None)
            if params is None:
                return
            if self.space.mark(params) not in self._seen:
                count -= 1
                yield params

    def _noted(self, params: dict[str, Any]) -> optuna.Trial:
        """A trial of given params, so that Optuna's samplers and pictures know them."""
        told = {
            name: value for name, value in self.space.texts(params).items() if isinstance(self.space.space.parts[name], tuple | Int | Float)
        }
        self.study.enqueue_trial(told)
        trial = self.study.ask()
        for name in told:
            suggest(trial, name, self.space.space)
        return trial

    def _sampler(self) -> Any:
        done = len(self.study.get_trials(deepcopy=False))
        seed = int(seeded(self.seed, done).randint(2**31 - 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self.objectives > 1:
                return optuna.samplers.NSGAIISampler(population_size=STARTUP, seed=seed)
            return optuna.samplers.TPESampler(n_startup_trials=STARTUP, constant_liar=True, seed=seed)


def told(value: Any) -> Any:
    """What a value is, as JSON: estimators by their parameters, models by their weights, distributions by their arguments."""
    if isinstance(value, Mapping):
        return [[str(name), told(item)] for name, item in sorted(value.items(), key=lambda pair: str(pair[0]))]
    if isinstance(value, list | tuple):
        return [told(item) for item in value]
    if hasattr(value, "get_params") and not isinstance(value, type):
        return [type(value).__name__, told(value.get_params(deep=False))]
    if hasattr(value, "dist") and hasattr(value, "kwds"):
        return [value.dist.name, repr(value.args), repr(value.kwds)]
    return [label(value), [[name, repr(item)] for name, item in flatten(value, leaf=leaf).items()]]


def _plain(fold: dict[str, Any]) -> dict[str, Any]:
    """What `json` can write of a fold."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return value.item() if hasattr(value, "item") else value if isinstance(value, bool | int | float | str | None) else repr(value)

    return {name: plain(value) for name, value in fold.items()}
