"""One trial by itself: build the model, apply the technique, measure on validation."""

import contextlib
import dataclasses
import gc
import time
from pathlib import Path
from typing import Any

import keras

from kdfuse import recording, runtime
from kdfuse.data import Data
from kdfuse.export.keras_file import save_model
from kdfuse.fitting.live import Live
from kdfuse.fitting.pause import PauseAt
from kdfuse.fitting.validation import Validation, why_not_at_once
from kdfuse.graph.copy import copy_model
from kdfuse.measure.latency import untimed
from kdfuse.report import Report
from kdfuse.search.candidate import Candidate
from kdfuse.search.early import StopBelow
from kdfuse.search.goals import Goals
from kdfuse.search.judge import judge
from kdfuse.splits import ArraySplit
from kdfuse.technique import Technique
from kdfuse.train import Train, came_compiled


@dataclasses.dataclass
class Job:
    """What a worker needs to run a trial.

    Attributes:
        candidate: its settings.
        goals: what is measured.
        run: where it is recorded.
        until: the epochs after which it pauses; None for all.
        bar: from `kdfuse.search.early.bar`, below which it stops; None for none.
        grace: epochs in which that does not happen.
        live: its training, kept in this process since it paused; one that is empty begins it. None: nothing is kept.
        shared: whether the training may begin again for another trial.
        state: its checkpoints, for a worker on a machine that has not the caller's files.
    """

    candidate: Candidate
    goals: Goals
    run: recording.Run
    until: int | None = None
    bar: tuple[str, list[float]] | None = None
    grace: int = 1
    live: Live | None = None
    shared: bool = False
    state: bytes | None = None

    @property
    def pauses(self) -> bool:
        """Whether the trial has epochs left when this job ends."""
        training = trains(self.candidate.technique)
        return self.until is not None and training is not None and self.until < training.epochs


@dataclasses.dataclass
class Outcome:
    """What a worker tells of a trial.

    Attributes:
        metrics: figures.
        history: curves.
        notes: of the training.
        seconds: wall time.
        stopped: whether it stopped below the bar.
        error: why it failed.
        report: of a technique that was called as a whole.
        model: the trained model, or its file's bytes from another process.
        events: what was recorded in another process.
        state: the checkpoints of a trial that paused, from a machine that has not the caller's files.
    """

    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False
    error: str = ""
    report: Report | None = None
    model: Any = None
    events: recording.Memory | None = None
    state: bytes | None = None


class Plain(recording.Recorder):
    """Another recorder, to which the models of trials are not told: a search records its winner's."""

    def __init__(self, inner: recording.Recorder) -> None:
        self.inner = inner

    def start(self, run: recording.Run) -> None:
        self.inner.start(run)

    def log(self, *arguments: Any) -> None:
        self.inner.log(*arguments)

    def tag(self, *arguments: Any) -> None:
        self.inner.tag(*arguments)

    def file(self, *arguments: Any) -> None:
        self.inner.file(*arguments)

    def end(self, *arguments: Any) -> None:
        self.inner.end(*arguments)

    def find(self, key: str) -> Report | None:
        return self.inner.find(key)


def trains(technique: Technique) -> Any:
    """The `Train` of a technique that is a trainer, `Train` itself or `Distill`; None of any other."""
    if isinstance(technique, Train):
        return technique
    training = getattr(technique, "training", None)
    return training if isinstance(training, Train) and all(hasattr(technique, name) for name in ("private", "fit", "public")) else None


def work(job: Job, data: Data) -> Outcome:
    """Run a trial; whatever goes wrong in it is told in the outcome.

    Args:
        job: what to do.
        data: without a test split.
    """
    begun = time.perf_counter()
    job.run.counts.clear()  # a trial that goes on finds the checkpoints of the same fits, in their order
    try:
        with runtime.new_models_expected(), recording.use(Plain(job.run.recorder)), recording.within(job.run):
            outcome = _train(job, data) if trains(job.candidate.technique) is not None else _apply(job, data)
    except Exception as error:
        outcome = Outcome(error=f"{type(error).__name__}: {error}")
    outcome.seconds = time.perf_counter() - begun
    gc.collect()
    return outcome


def _train(job: Job, data: Data) -> Outcome:
    technique: Any = job.candidate.technique
    training, live = trains(technique), job.live
    callbacks: list[Any] = [PauseAt(job.until)] if job.until is not None and job.pauses else []
    below = [StopBelow(job.bar, job.grace)] if job.bar is not None else []
    student = live.model if live is not None else None
    if student is None:
        model = job.candidate.model(data)
        technique.check(model, data)
        student = technique.private(model, data)
    extra = {"validation": found} if (found := _validation(technique, student, data)) is not None else {}
    with live.going() if live is not None else contextlib.nullcontext():
        fitted = technique.fit(student, data, [*callbacks, *below], **extra)
    if live is None:
        made = technique.public(student, data)
    elif callbacks:  # it pauses: it stays compiled, and is measured as it is
        made = student
    else:  # it may begin again for another trial
        made = technique.public(copy_model(student, data.example(2)) if job.shared else student, data)
    done = found.of(fitted.history) if found is not None else None
    metrics = judge(made, data, job.goals, training.head, done)
    return Outcome(metrics, fitted.history, fitted.notes, stopped=any(one.stopped for one in below), model=made)


def _validation(technique: Any, student: keras.Model, data: Data) -> Validation | None:
    """What validates in one pass, by which the trial is judged; None where Keras must, or where the model ends in another precision."""
    ours = type(technique) is Train and technique.loss == "auto" and not came_compiled(student)
    if not ours or technique.strategy is not None or technique.precision is not None:
        return None
    if not isinstance(data.validation, ArraySplit) or why_not_at_once(student, data.validation) is not None:
        return None
    return Validation(data.validation, technique.stopping)


def _apply(job: Job, data: Data) -> Outcome:
    technique = job.candidate.technique
    if job.goals.timed:
        model, report = technique(job.candidate.model(data), data)
    else:
        with untimed():
            model, report = technique(job.candidate.model(data), data)
    if not isinstance(model, keras.Model):
        raise TypeError(f"`technique`: expected one that gives one model. Received: {type(technique).__name__}, which gives several.")
    return Outcome(report.metrics, report.history, report.notes, report=report, model=model)


def as_bytes(model: keras.Model, folder: Path) -> bytes:
    """A model as the bytes of its file, for the way home from another process."""
    return save_model(model, folder / "model.keras").read_bytes()
