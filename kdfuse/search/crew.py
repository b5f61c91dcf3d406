"""The crew: trials in this process, or in workers of joblib (processes, a Dask or a Ray cluster)."""

import contextlib
import dataclasses
import os
import tempfile
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import joblib
import keras

from kdfuse import recording, runtime
from kdfuse.data import Data
from kdfuse.home import home
from kdfuse.keys import forget
from kdfuse.search.parcel import pack, sign, unpack
from kdfuse.search.work import Job, Outcome, as_bytes, work
from kdfuse.search.workers import SHARING, check_backend, cluster, streamed
from kdfuse.settings import flatten

ATTEMPTS = 2
"""How often a trial is tried again whose worker was lost."""
LOST = ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError")
"""What loky, Dask and Ray say of a worker that died. TensorFlow's own lack of memory never comes as an exception: it is an outcome."""
HERE = uuid.uuid4().hex
"""This process, different from any other's on any machine."""
ALONE = threading.Lock()
"""Held while a trial runs in a worker: a Dask worker of several threads runs its trials one after another."""


class Caller(NamedTuple):
    """Whose trial it is: process, thread, the folder where its state lives, and a file there that tells who shares it."""

    process: str
    thread: int
    home: str
    sign: str


def check_jobs(n_jobs: int) -> None:
    """Raise unless `n_jobs` workers can run TensorFlow.

    Raises:
        ValueError: not an integer from 1, or -1 for all cores; or joblib's backend forks or shares one process.
    """
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or (n_jobs < 1 and n_jobs != -1):
        raise ValueError(f"`n_jobs`: expected an integer of at least 1, or -1 for all cores. Received: n_jobs={n_jobs!r}.")
    check_backend(n_jobs, threads_unsafe=True)


def check_device(job: Job) -> None:
    """Raise where a trial asks for a GPU and this machine has none: no other trial of the search could do better.

    Raises:
        ValueError: there is no GPU.
    """
    flat = flatten(job.candidate.technique, leaf=lambda value: "a model" if isinstance(value, keras.Model) else None)
    for name, value in flat.items():
        if name.rpartition("__")[2] == "strategy" and value == "gpu":
            runtime.strategy("gpu")


def outcomes(jobs: Sequence[Job], data: Data, n_jobs: int) -> Iterator[tuple[int, Outcome]]:
    """Run jobs and give each one's place and outcome as it ends.

    Args:
        jobs: independent of each other.
        data: for all of them.
        n_jobs: how many at once; 1 runs them here, more in processes, or on the cluster whose backend of joblib is in force.

    Raises:
        ValueError: a trial asks for a GPU where it runs, and there is none.
    """
    if n_jobs == 1:
        for place, job in enumerate(jobs):
            check_device(job)
            yield place, work(job, data)
        return
    left, lost = dict(enumerate(jobs)), 0
    while left:
        # One at a time once workers die: then it is known which trial killed its worker.
        turn = left if lost < ATTEMPTS else dict([next(iter(left.items()))])
        try:
            for place, packed in _turn(dict(turn), data, n_jobs):
                outcome = cloudpickle.loads(packed)
                if outcome.events is not None:
                    outcome.events.replay(left[place].run.recorder)
                key = left[place].run.key
                if outcome.state is not None and key is not None:
                    unpack(key, outcome.state)
                del left[place]
                yield place, outcome
        except Exception as error:
            if not _worker_lost(error):
                raise
            name, first = type(error).__name__, str(error).partition("\n")[0]
            # Dask has tried a trial several times before it says so.
            lost = max(lost + 1, ATTEMPTS) if name == "KilledWorker" else lost + 1
            again = "its trial runs again" if lost <= ATTEMPTS else "its trial is given up"
            warnings.warn(f"A worker was lost; {again}. {name}: {first}", stacklevel=2)
            if lost > ATTEMPTS:
                place, lost = next(iter(left)), 0
                del left[place]
                yield place, Outcome(error=f"{name}: the worker died each time that this trial ran.")


def remote(place: int, packed: bytes, data: Data, caller: Caller) -> tuple[int, bytes]:
    """A trial in a worker, whose threads are bounded before TensorFlow makes any.

    Raises:
        ValueError: it runs in another thread of the caller's process, or there is no GPU though it asks for one.
    """
    if caller.process == HERE and caller.thread != threading.get_ident():
        raise ValueError(
            "`n_jobs`: expected workers in processes of their own. Received: a worker that is a thread of the search's process. "
            "Start the cluster with processes=True, threads_per_worker=1."
        )
    with ALONE, _environment(caller) as shared:
        job: Job = cloudpickle.loads(packed)
        check_device(job)
        job.run.recorder = memory = recording.Memory()
        if not shared and job.state is not None and job.run.key is not None:
            unpack(job.run.key, job.state)
        outcome = work(job, data)
        if not shared:
            outcome.state = pack(job.run.key) if job.pauses else None
            forget(job.run.key)
        if outcome.model is not None:
            with tempfile.TemporaryDirectory() as folder:
                outcome = dataclasses.replace(outcome, model=as_bytes(outcome.model, Path(folder)))
    outcome.events = memory
    return place, cloudpickle.dumps(outcome)


def _turn(turn: Mapping[int, Job], data: Data, n_jobs: int) -> Iterator[tuple[int, bytes]]:
    """Run some of the jobs in workers. A lost worker is an error: at once in a pool, after the other trials on a cluster."""
    found = cluster()
    calls = ((place, _packed(job, found is not None)) for place, job in turn.items())
    with sign() as seen:
        caller = Caller(HERE, threading.get_ident(), str(home()), str(seen))
        if found is None:
            with _few_threads():
                # Of one worker joblib makes none, and runs the trial here.
                pool = joblib.Parallel(n_jobs if len(turn) > 1 else 2, batch_size=1, pre_dispatch="2*n_jobs", **_streaming())
                yield from pool(joblib.delayed(remote)(*call, data, caller) for call in calls)
            return
        lost: Exception | None = None
        for result in streamed(found, remote, calls, (data, caller), n_jobs):
            if not isinstance(result, Exception):
                yield result
            elif _worker_lost(result):
                lost = lost or result
            else:
                raise result
        if lost is not None:
            raise lost


def _packed(job: Job, far: bool) -> bytes:
    """A job for another process; for one that may be on another machine, with its checkpoints."""
    run = dataclasses.replace(job.run, parent=None, children=[], recorder=recording.Silence())
    return cloudpickle.dumps(dataclasses.replace(job, run=run, state=pack(run.key) if far else None))  # type: ignore[no-any-return]


def _streaming() -> dict[str, Any]:
    streams = getattr(joblib.parallel.get_active_backend()[0], "supports_return_generator", False)
    return {"return_as": "generator_unordered"} if streams else {}


def _worker_lost(error: Exception) -> bool:
    return any(one.__name__ in LOST for one in type(error).__mro__)


@contextlib.contextmanager
def _environment(caller: Caller) -> Iterator[bool]:
    """In a worker: bounded threads for good, and for one trial the caller's folder, where it is shared; whether it is."""
    if caller.process == HERE:
        yield True
        return
    for name, value in {**SHARING, "TF_CPP_MIN_LOG_LEVEL": "3"}.items():
        os.environ.setdefault(name, value)
    shared = Path(caller.sign).is_file()
    with _lent({"KDFUSE_HOME": caller.home} if shared else {}):
        yield shared


@contextlib.contextmanager
def _few_threads() -> Iterator[None]:
    """New workers begin with one TensorFlow thread each: they share the cores."""
    with _lent(SHARING):
        yield


@contextlib.contextmanager
def _lent(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables, until the end of the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
