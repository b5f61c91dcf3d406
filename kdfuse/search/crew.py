"""The crew: trials in this process, or in workers of joblib (processes, a Dask or a Ray cluster)."""

import contextlib
import dataclasses
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import joblib

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.search.work import Job, Outcome, as_bytes, work
from kdfuse.search.workers import ONE_THREAD, check_backend

ATTEMPTS = 2
"""How often a trial is tried again whose worker was lost."""
LOST = ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker", "WorkerCrashedError")


def check_jobs(n_jobs: int) -> None:
    """Raise unless `n_jobs` workers can run TensorFlow.

    Raises:
        ValueError: not an integer from 1, or -1 for all cores; or joblib's backend forks or shares one process.
    """
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or (n_jobs < 1 and n_jobs != -1):
        raise ValueError(f"`n_jobs`: expected an integer of at least 1, or -1 for all cores. Received: n_jobs={n_jobs!r}.")
    check_backend(n_jobs, threads_unsafe=True)


def outcomes(jobs: Sequence[Job], data: Data, n_jobs: int) -> Iterator[tuple[int, Outcome]]:
    """Run jobs and give each one's place and outcome as it ends.

    Args:
        jobs: independent of each other.
        data: for all of them.
        n_jobs: how many at once; 1 runs them here, unless a cluster's backend of joblib is in force.
    """
    if n_jobs == 1 and _backend() in ("LokyBackend", "SequentialBackend", "ThreadingBackend", "MultiprocessingBackend"):
        for place, job in enumerate(jobs):
            yield place, work(job, data)
        return
    left, lost = dict(enumerate(jobs)), 0
    while left:
        try:
            with _few_threads():
                # One at a time once workers die: then it is known which trial killed its worker.
                pool = joblib.Parallel(n_jobs if lost < ATTEMPTS else 1, batch_size=1, pre_dispatch="2*n_jobs", **_streaming())
                turn = list(left.items()) if lost < ATTEMPTS else [next(iter(left.items()))]
                for place, packed in pool(joblib.delayed(remote)(place, _packed(job), data) for place, job in turn):
                    outcome = cloudpickle.loads(packed)
                    if outcome.events is not None:
                        outcome.events.replay(left[place].run.recorder)
                    del left[place]
                    yield place, outcome
        except Exception as error:
            if not _worker_lost(error):
                raise
            lost += 1
            warnings.warn(f"A worker was lost; its trial runs again. {type(error).__name__}: {str(error).splitlines()[0]}", stacklevel=2)
            if lost > ATTEMPTS:
                place, _ = next(iter(left.items()))
                del left[place]
                yield place, Outcome(error=f"{type(error).__name__}: the worker died each time that this trial ran.")


def remote(place: int, packed: bytes, data: Data) -> tuple[int, bytes]:
    """A trial in a worker: nothing of TensorFlow is loaded before its threads are bounded."""
    for name, count in ONE_THREAD.items():
        os.environ.setdefault(name, count)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    job: Job = cloudpickle.loads(packed)
    job.run.recorder = memory = recording.Memory()
    outcome = work(job, data)
    if outcome.model is not None:
        with tempfile.TemporaryDirectory() as folder:
            outcome = dataclasses.replace(outcome, model=as_bytes(outcome.model, Path(folder)))
    outcome.events = memory
    return place, cloudpickle.dumps(outcome)


def _packed(job: Job) -> bytes:
    run = dataclasses.replace(job.run, parent=None, children=[], recorder=recording.Silence())
    return cloudpickle.dumps(dataclasses.replace(job, run=run))  # type: ignore[no-any-return]


def _backend() -> str:
    return type(joblib.parallel.get_active_backend()[0]).__name__


def _streaming() -> dict[str, Any]:
    streams = getattr(joblib.parallel.get_active_backend()[0], "supports_return_generator", False)
    return {"return_as": "generator_unordered"} if streams else {}


def _worker_lost(error: Exception) -> bool:
    return any(one.__name__ in LOST for one in type(error).__mro__)


@contextlib.contextmanager
def _few_threads() -> Iterator[None]:
    """New workers begin with one TensorFlow thread each: they share the cores."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
