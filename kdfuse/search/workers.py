"""Workers: processes of joblib in which scikit-learn's searches may run TensorFlow, and the workers of a cluster."""

import contextlib
import os
import pickle
import queue
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import cloudpickle
import joblib

QUIET = {"KDFUSE_TRACKING": "off", "TF_CPP_MIN_LOG_LEVEL": "3"}
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
SHARING = {**ONE_THREAD, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
"""For workers that share a machine: its cores, and a GPU's memory, which TensorFlow otherwise takes whole (not measured on a GPU)."""


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


class Cluster(Protocol):
    """A cluster on which calls run."""

    def hold(self, value: Any) -> Any:
        """Send a value to the cluster once; what comes back stands for it in calls."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start a call: a future with `add_done_callback`, `exception` and `result`."""

    def stop(self, future: Any) -> None:
        """Give up a call that has not ended."""


class Dask:
    """The Dask cluster of joblib's backend. joblib's own calls never end where Dask gives up a task whose workers died."""

    def __init__(self, backend: Any) -> None:
        backend.effective_n_jobs(-1)  # waits for a first worker; without one it raises
        self.client = backend.client

    def hold(self, value: Any) -> Any:
        # The result of a task: unlike scattered data, it is made anew when the workers that had it die.
        return self._start(pickle.loads, cloudpickle.dumps(value))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._start(function, *arguments)

    def stop(self, future: Any) -> None:
        future.cancel()

    def _start(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self.client.submit(function, *arguments, pure=False)


class Ray:
    """The Ray cluster of joblib's backend. Ray's pool for joblib starts new processes for each batch, and tells nothing until its end."""

    def __init__(self, backend: Any) -> None:
        self.ray: Any = sys.modules["ray"]
        self.settings = {"max_retries": 0, **(backend.ray_remote_args or {})}
        self.references: dict[Any, Any] = {}
        if not self.ray.is_initialized():
            self.ray.init()

    def hold(self, value: Any) -> Any:
        return self.ray.put(value)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        reference = self.ray.remote(function).options(**self.settings).remote(*arguments)
        future = reference.future()
        self.references[future] = reference
        future.add_done_callback(lambda future: self.references.pop(future, None))
        return future

    def stop(self, future: Any) -> None:
        reference = self.references.get(future)
        if reference is not None:
            self.ray.cancel(reference)


def cluster() -> Cluster | None:
    """The cluster whose backend of joblib is in force; None where there is none."""
    backend = joblib.parallel.get_active_backend()[0]
    known: dict[str, Callable[[Any], Cluster]] = {"DaskDistributedBackend": Dask, "RayBackend": Ray}
    name = type(backend).__name__
    return known[name](backend) if name in known else None


def streamed(
    where: Cluster, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], shared: tuple[Any, ...], at_once: int
) -> Iterator[Any]:
    """Call `function(*call, *shared)` on a cluster and give what comes back, or the exception, as each call ends.

    Args:
        where: the cluster.
        function: that it can import.
        calls: the arguments of each.
        shared: arguments of all, sent once.
        at_once: calls that go on together; -1 for all.
    """
    held, left = [where.hold(value) for value in shared], iter(calls)
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    going: list[Any] = []
    try:
        while True:
            while at_once == -1 or len(going) < at_once:
                call = next(left, None)
                if call is None:
                    break
                future = where.submit(function, *call, *held)
                going.append(future)
                future.add_done_callback(ended.put)
            if not going:
                return
            future = ended.get()
            going.remove(future)
            error = future.exception()
            yield future.result() if error is None else error
    finally:
        for future in going:
            where.stop(future)
