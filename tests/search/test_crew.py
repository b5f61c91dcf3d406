import os
import signal

import joblib
import pytest
import tensorflow as tf

import kdfuse as kf
from kdfuse import recording
from kdfuse.search.crew import check_jobs


def told(report):
    keep = ("model", "status", "build__units", "validation/accuracy", "validation/log_loss")
    return [[row.get(name) for name in keep] for row in report.tables["trials"]]


@pytest.mark.slow
def test_workers_give_what_one_process_gives_though_one_is_killed(data, tmp_path):
    flag = tmp_path / "killed"

    def build(data, units=4, seed=0):
        from kdfuse.models.mlp import mlp

        # Not in the process that only counts its parameters.
        if units == 6 and os.getpid() != parent and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return mlp(data, units=units, seed=seed)

    parent = os.getpid()
    settings = {"vectorized": False, "stop_hopeless": False}
    with recording.use(recording.Memory()) as memory, pytest.warns(UserWarning, match="A worker was lost"):
        many = kf.GridSearch(kf.Train(epochs=1), {"build__units": [5, 6, 7]}, n_jobs=2, **settings)(build, data)
    one = kf.GridSearch(kf.Train(epochs=1), {"build__units": [5, 6, 7]}, **settings)(build, data)
    assert flag.exists()
    assert told(many[1]) == told(one[1])
    assert many[1].metrics["test/accuracy"] == one[1].metrics["test/accuracy"]
    runs = [arguments[0] for hook, arguments in memory.events if hook == "start"]
    ids = {run.id: run.name for run in runs}
    assert sorted(ids.values()) == ["GridSearch", "trial 0", "trial 1", "trial 2"]
    epochs = [ids[arguments[0].id] for hook, arguments in memory.events if hook == "log" and arguments[2] == 0]
    assert sorted(epochs) == ["trial 0", "trial 1", "trial 2"]  # each worker's epochs came home, once


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_gpu_that_is_not_there_ends_the_search_before_a_trial(data, jobs):
    search = kf.RandomSearch(kf.Train(epochs=1, strategy="gpu"), {"build__units": [5, 6]}, n_trials=2, n_jobs=jobs)
    with recording.use(recording.Memory()) as memory, pytest.raises(ValueError, match="`strategy`: expected a GPU for 'gpu'. Received"):
        search(kf.models.mlp, data)
    assert not [hook for hook, _ in memory.events if hook == "log"]


def test_forked_processes_and_threads_are_refused():
    for backend, why in (("multiprocessing", "hang"), ("threading", "random state")):
        with joblib.parallel_config(backend=backend), pytest.raises(ValueError, match=why):
            check_jobs(2)
    check_jobs(2)
    check_jobs(-1)
    for wrong in (0, -2, 1.5, True):
        with pytest.raises(ValueError, match="`n_jobs`"):
            check_jobs(wrong)
