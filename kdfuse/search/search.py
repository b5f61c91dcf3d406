"""The family of searches: techniques that try candidates of a space and give the best one's model."""

import contextlib
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from kdfuse import recording
from kdfuse.calls import check_call, check_inputs
from kdfuse.data import Data
from kdfuse.home import home
from kdfuse.measure.measure import measure
from kdfuse.report import Report, figure
from kdfuse.search.candidate import Choice
from kdfuse.search.crew import check_jobs
from kdfuse.search.goals import make_goals
from kdfuse.search.judge import MEASURED
from kdfuse.search.ledger import ledger
from kdfuse.search.progress import Progress
from kdfuse.search.session import Session
from kdfuse.search.space import Space
from kdfuse.search.work import trains
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Train


@settings
class Search(Technique):
    """What searches have in common: called with a builder (or a model) and data, they give the best candidate's model.

    Trials are measured on the validation split; the models of the Pareto front are measured on test, once, at the end. A killed search
    goes on with the first trial that had not ended, when it is called again with the same settings, builder and data (arrays).

    Attributes:
        technique: applied to each candidate's model: `Train(...)`, `Distill(teacher)`, a `Chain` ...
        space: setting names to a list of choices, an `Int`, a `Float`, a distribution of `scipy.stats`, or one value. `build__x` is the
            setting `x` of the builder, any other name one of the technique (`training__learning_rate`, `losses__0__temperature`); `build`
            and `technique` are those themselves. What the chosen builder or technique does not have is left out for it.
        maximize: figures of which more is better, by bare names on the validation split; the first one chooses the winner. By default
            `accuracy`, or `r2` for regression.
        minimize: figures of which less is better: `macs`, `parameters`, `keras_bytes`, `log_loss`, `p50_ms` (latency) ...
        limits: the most of a figure of which less is better, the least of one of which more is better: `{"parameters": 50_000}`.
            Candidates whose parameters or MACs are beyond them are not trained.
        n_jobs: trials at once in processes of their own, -1 for all cores. Inside `joblib.parallel_config(backend="dask")` or `"ray"`
            they run on that cluster (tried with the workers of one machine).
        vectorized: small dense networks train side by side in NumPy, which gives the weights of `fit` but for rounding.
        live: models stay in memory, compiled, so that TensorFlow does not trace them again: of survivors of halving, and of trials of
            `Train` that differ in learning rate and weights alone. In this process (`n_jobs=1`); the results are the same.
        refit: trains the winner once more from scratch, with the technique as a whole and its report (a teacher's figures, a control).
        timeout: seconds after which no new trial begins, and of those that pause the best alone goes on; None for no limit.
        seed: of the candidates, and of builders that take one.
    """

    technique: Technique = Train()
    space: Mapping[str, Any] = None  # type: ignore[assignment]
    maximize: str | tuple[str, ...] | None = None
    minimize: str | tuple[str, ...] | None = None
    limits: Mapping[str, float] | None = None
    n_jobs: int = 1
    vectorized: bool = True
    live: bool = True
    refit: bool = False
    timeout: float | None = None
    seed: int = 0

    row = "winner"

    def __post_init__(self) -> None:
        if not isinstance(self.technique, Technique):
            raise TypeError(f"`technique`: expected a technique, such as kdfuse.Train(). Received: {self.technique!r}.")
        check_trial(self.technique)
        if self.space is None:
            raise TypeError('`space`: expected a dict such as {"build__units": kdfuse.Int(16, 256)}. Received: none.')
        for technique in Space(self.space).choices("technique"):
            check_trial(technique)
        check_jobs(self.n_jobs)
        for name in ("vectorized", "live", "refit"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}`: expected True or False. Received: {name}={getattr(self, name)!r}.")
        if self.timeout is not None and not (isinstance(self.timeout, int | float) and self.timeout > 0):
            raise ValueError(f"`timeout`: expected seconds above 0, or None. Received: timeout={self.timeout!r}.")
        whole("seed", self.seed, 0)

    def given(self, model: Any, data: Data) -> Any:
        """A builder, a model, or None where the space has `build`."""
        if not isinstance(data, Data):
            check_call(type(self).__name__, keras.Sequential(), data)
        if model is None and "build" in self.space:
            return None
        if not callable(model):
            raise TypeError(
                f"`model` of {type(self).__name__}: expected a builder such as kdfuse.models.mlp, or a keras.Model. Received: {model!r}."
            )
        if isinstance(model, keras.Layer):
            check_call(type(self).__name__, model, data)
            check_inputs(type(self).__name__, model, data)  # type: ignore[arg-type]
        return model

    def check(self, model: Any, data: Data) -> None:
        choice, goals = self._choice(model), make_goals(self.maximize, self.minimize, self.limits, data)
        never = [name for name in (*goals.objectives, *goals.limits) if not name.startswith("validation/") and name not in MEASURED]
        if never and all(trains(technique) is not None for technique in choice.techniques()):
            known = ", ".join(name.partition("/")[2] for name in MEASURED)
            raise ValueError(f"`maximize`, `minimize` and `limits`: {never[0]!r} is not measured of a model that is trained alone. Use "
                             f"figures of the validation split, or: {known}.")  # fmt: skip
        choice.check_model(data)
        if goals.timed and self.n_jobs != 1:
            raise ValueError(f"`n_jobs`: to measure latency, trials run one at a time. Received: n_jobs={self.n_jobs}. Give 1.")
        streams = [split for split in (data.train, data.validation) if hasattr(getattr(split, "source", None), "element_spec")]
        if streams and self.n_jobs != 1:
            raise ValueError(
                f"`n_jobs`: a tf.data.Dataset cannot go to other processes. Received: n_jobs={self.n_jobs}. Give arrays, or 1."
            )

    def apply(self, model: Any, data: Data) -> Result:
        choice, goals = self._choice(model), make_goals(self.maximize, self.minimize, self.limits, data)
        run, end = recording.current(), math.inf if self.timeout is None else time.monotonic() + self.timeout
        with contextlib.ExitStack() as stack:
            kept, notes = stack.enter_context(ledger(run.key if run is not None else None))
            progress = stack.enter_context(Progress(self.expected(choice), goals.objectives[0]))
            how: dict[str, Any] = {
                "n_jobs": self.n_jobs,
                "vectorized": self.vectorized,
                "stop_hopeless": getattr(self, "stop_hopeless", False),
                "live": self.live,
            }
            session = Session(choice, goals, data.with_splits(test=None), kept, progress, over=lambda: time.monotonic() > end, **how)
            stack.enter_context(session)
            self.search(session)
            ended = sum(trial.status != "open" for trial in session.trials)
            notes += [f"The time was up after {ended} trials."] if session.over() else []
            return self._result(session, data, notes)

    def search(self, session: Session) -> None:
        """Open trials in a session and advance them. What a subclass writes."""
        raise NotImplementedError

    def expected(self, choice: Choice) -> int | None:
        """How many trials there will be, where it is known."""
        return getattr(self, "n_trials", None)

    def _choice(self, build: Any) -> Choice:
        return Choice(self.technique, self.space, build, self.seed)

    def _result(self, session: Session, data: Data, notes: list[str]) -> Result:
        front = session.front()
        if not front:
            raise RuntimeError(nothing(session))
        run, files, rows = recording.current(), {}, []
        models = {trial.name: session.model(trial) for trial in front}
        timed = {name: session.goals.timed or name == front[0].name for name in models}
        measured = {name: measure(model, data, latency=timed[name]) for name, model in models.items()}
        for trial in front:
            rows.append({"model": trial.name, **trial.candidate.texts(), **measured[trial.name].metrics})
            if run is not None and len(front) > 1:
                place = home("files", run.id, f"{trial.name.replace(' ', '-')}.keras")
                place.parent.mkdir(parents=True, exist_ok=True)
                files[f"front/{trial.name}"] = Path(shutil.copy(session.ledger.model(trial.number), place))
        best = front[0]
        winner, found = models[best.name], measured[best.name]
        report = Report(metrics=found.metrics, tables=found.tables)
        technique = best.candidate.technique
        if self.refit:
            winner, report = technique(best.candidate.model(data), data, name="winner, from scratch")
        if run is not None:
            run.tag({f"winner.{name}": str(value) for name, value in best.candidate.texts().items()})
        metrics = {**report.metrics, **counts(session)}
        tables = {**report.tables, "front": rows, "trials": [trial.row() for trial in ordered(session)]}
        if self.refit:
            tables["baselines"] = report.rows()[1:]
        tables.pop("models", None)
        training = trains(technique)
        return Result(
            winner,
            {"search/best": session.best},
            metrics,
            tables,
            {**report.files, **files},
            notes + self._notes(session, report),
            heads={"model": training.head if training is not None else "auto"},
            reports={self.row: report},
        )

    def report(self, result: Result, data: Data, run: recording.Run) -> Report:
        """The winner beside what a refit was compared with: a teacher, a control."""
        beside = result.tables.pop("baselines", [])
        report = super().report(result, data, run)
        report.tables["models"] += beside
        return report

    def _notes(self, session: Session, report: Report) -> list[str]:
        best = session.front()[0]
        texts = best.candidate.texts().items()
        said = ", ".join(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in texts)
        notes = [f"The winner is {best.name}: {said}."]
        together = sum(trial.how.startswith("population") for trial in session.trials)
        alone = [trial for trial in session.trials if trial.how == "alone"]
        why = sorted({trial.alone for trial in alone if trial.alone})
        notes += [f"{together} trials trained in populations, {len(alone)} alone{': ' + '; '.join(why) if why else ''}."]
        failed = [trial for trial in session.trials if trial.status == "failed"]
        notes += [f"{len(failed)} trials failed. The first, {failed[0].name}: {failed[0].error}"] if failed else []
        notes += [f"{session.resumed} trials had ended before this call, and were taken as they were."] if session.resumed else []
        for what, count in session.refused.items():
            who, were = (f"{count} candidates", "were") if count > 1 else ("A candidate", "was")
            notes.append(f"{who} had more {what} than the limit, and {were} not trained.")
        return notes + [note for note in report.notes if self.refit]


def check_trial(technique: Any) -> None:
    """Raise unless a technique can be that of a trial, which has one model.

    Raises:
        TypeError: it is a search itself, or takes or gives several models.
    """
    name = type(technique).__name__
    if isinstance(technique, Search):
        raise TypeError(f"`technique`: a trial is no search itself. Received: {name}. Search over its technique, in one space.")
    several = [what for what in ("takes", "gives") if getattr(technique, f"{what}_models", False)]
    if several:
        raise TypeError(f"`technique`: a trial has one model. Received: {name}, which {several[0]} several. Search over what trains one.")


def ordered(session: Session) -> list[Any]:
    """The trials, best in the first objective first; those that failed last."""

    def value(trial: Any) -> float:
        name, sign = session.goals.objectives[0], session.goals.signs[0]
        return -sign * trial.metrics[name] if name in trial.metrics else math.inf

    return sorted(session.trials, key=lambda trial: (trial.status != "finished", value(trial), trial.number))


def counts(session: Session) -> dict[str, float]:
    """How many trials there were, by what became of them, and the epochs trained."""
    by = {status: sum(trial.status == status for trial in session.trials) for status in ("failed", "stopped")}
    epochs = sum(trial.epochs or 0 for trial in session.trials)
    return {"search/trials": float(len(session.trials)), "search/failed": float(by["failed"]), "search/stopped": float(by["stopped"]),
            "search/epochs": float(epochs)}  # fmt: skip


def nothing(session: Session) -> str:
    """Why a search found no model."""
    failed = [trial for trial in session.trials if trial.status == "failed"]
    if not session.trials:
        what = ", ".join(f"{count} for their {name}" for name, count in session.refused.items())
        mend = "Make them wider, or the space smaller."
        late = "No trial had begun when the time was up. Give a longer `timeout`." if session.over() else "No trial was run."
        return f"`limits`: no candidate keeps them; refused were {what}. {mend}" if what else late
    if len(failed) == len(session.trials):
        return f"`space`: all {len(failed)} trials failed. The first, {failed[0].name}: {failed[0].error}"
    broken = [session.goals.broken(trial.metrics) for trial in session.trials if trial.status == "finished"]
    if broken and broken[0] is not None:
        titles = ", ".join(known.title for name in session.goals.limits if (known := figure(name)) is not None)
        return f"`limits`: none of {len(broken)} models keeps them ({titles}). One has {broken[0]} Make them wider."
    late = " Give a longer `timeout`." if session.over() else ""
    return f"No trial finished: {len(failed)} failed, {len(session.trials) - len(failed)} were stopped or had no time.{late}"


def whole(name: str, value: Any, least: int) -> None:
    """Raise unless a setting is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}`: expected an integer of at least {least}. Received: {name}={value!r}.")
