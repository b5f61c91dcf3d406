import os
import subprocess
import sys

import joblib
import pytest

from kdfuse.search.workers import begin, safe_workers

CHILD = """
import os, sys
import joblib
from kdfuse.search.workers import safe_workers
def told():
    return os.environ.get("KDFUSE_TRACKING"), os.environ.get("TF_NUM_INTRAOP_THREADS"), os.environ.get("OMP_NUM_THREADS"), os.getpid()
os.environ.pop("KDFUSE_TRACKING", None)
with safe_workers(2, threads_unsafe=True):
    found = set(joblib.Parallel(2)(joblib.delayed(told)() for _ in range(4)))
separate = os.getpid() not in {one[3] for one in found}
print(separate, {one[:3] for one in found}, os.environ.get("KDFUSE_TRACKING"), "tensorflow" in sys.modules)
"""


def test_workers_are_new_processes_of_one_thread_that_record_nothing():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True {('off', '1', '1')} None False"


def test_a_worker_begins_with_its_environment(monkeypatch):
    for name in ("KDFUSE_TRACKING", "TF_CPP_MIN_LOG_LEVEL", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "before")
    begin()
    assert os.environ["KDFUSE_TRACKING"] == "off" and os.environ["TF_NUM_INTEROP_THREADS"] == "1"


@pytest.mark.parametrize(
    ("backend", "why"), [("multiprocessing", "forked processes hang"), ("threading", "threads share one random state")]
)
def test_forks_and_threads_are_refused(backend, why, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    with joblib.parallel_config(backend):
        with pytest.raises(ValueError, match=f"`n_jobs`: joblib's backend is .*{why}.*or n_jobs=1"), safe_workers(2, threads_unsafe=True):
            pass
        with safe_workers(1, threads_unsafe=True):
            pass
        if backend == "threading":
            with safe_workers(2, threads_unsafe=False):
                assert type(joblib.parallel.get_active_backend()[0]).__name__ == "ThreadingBackend"


def test_a_backend_of_the_callers_stays():
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=2), safe_workers(None, threads_unsafe=True):
        backend, jobs = joblib.parallel.get_active_backend()
        assert backend.inner_max_num_threads == 2 and jobs == 2
