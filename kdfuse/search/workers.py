"""Workers: processes of joblib in which scikit-learn's searches may run TensorFlow."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import joblib

QUIET = {"KDFUSE_TRACKING": "off", "TF_CPP_MIN_LOG_LEVEL": "3"}
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@contextlib.contextmanager
def safe_workers(n_jobs: int | None, threads_unsafe: bool) -> Iterator[None]:
    """Inside, joblib's own workers are new processes with one TensorFlow thread each, which record nothing.

    A backend that the caller chose (Dask, Ray, loky with threads of its own) stays as it is.

    Args:
        n_jobs: workers; None for what joblib's configuration says.
        threads_unsafe: whether the fits share global state, as those of Keras do.

    Raises:
        ValueError: the backend in force forks while TensorFlow is loaded, or runs threads where they are unsafe.
    """
    backend, configured = joblib.parallel.get_active_backend()
    jobs = n_jobs if n_jobs is not None else configured or 1
    name = check_backend(jobs, threads_unsafe)
    if jobs == 1 or name != "LokyBackend" or backend.inner_max_num_threads is not None:
        yield
        return
    with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1, initializer=begin):
        yield


def check_backend(jobs: int, threads_unsafe: bool) -> str:
    """The name of joblib's backend in force.

    Raises:
        ValueError: more than one worker, and it forks while TensorFlow is loaded, or runs threads where they are unsafe.
    """
    name = type(joblib.parallel.get_active_backend()[0]).__name__
    forks = name == "MultiprocessingBackend" and "tensorflow" in sys.modules
    if jobs != 1 and (forks or (name == "ThreadingBackend" and threads_unsafe)):
        why = "forked processes hang once TensorFlow is loaded" if forks else "threads share one random state"
        raise ValueError(f"`n_jobs`: joblib's backend is {name}, and {why}. Use joblib's default (loky), 'dask' or 'ray', or n_jobs=1.")
    return name


def begin(**settings: Any) -> None:
    """In a new worker, before TensorFlow is loaded: one thread, no recording."""
    os.environ.update({**QUIET, **ONE_THREAD, **settings})
