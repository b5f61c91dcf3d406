"""Beyond one process: on a Dask and on a Ray cluster of this machine searches give what one process gives."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.search.workers import streamed

SPACE = {"build__units": [5, 6, 7], "training__learning_rate": kf.Float(1e-3, 1e-1, log=True)}
ALONE = {"vectorized": False, "seed": 3}
SEARCHES = {
    "random": lambda jobs: kf.RandomSearch(kf.Train(epochs=2), SPACE, n_trials=3, n_jobs=jobs, **ALONE),
    "halving": lambda jobs: kf.HalvingSearch(kf.Train(), SPACE, max_epochs=2, eta=2, n_trials=3, refit=False, n_jobs=jobs, **ALONE),
    "bayes": lambda jobs: kf.BayesSearch(kf.Train(epochs=1), SPACE, n_trials=4, batch=2, n_jobs=jobs, **ALONE),
}
TRACKED = """
import sys
import kdfuse as kf

name = sys.argv[1]
space = {"build__units": [5, 6, 7, 8]}
random = kf.RandomSearch(kf.Train(epochs=1), space, n_trials=4, vectorized=False)
halving = kf.HalvingSearch(kf.Train(), space, max_epochs=2, eta=2, n_trials=4, refit=False)
print("ready", flush=True)
sys.stdin.readline()
with kf.track("two", run=name):
    (random if name == "random" else halving)(kf.models.mlp, kf.datasets.load("digits"))
"""


@pytest.fixture(scope="module")
def few():
    digits = kf.datasets.load("digits")
    rows = [(part.x[:count], part.y[:count]) for part, count in ((digits.train, 256), (digits.validation, 128), (digits.test, 128))]
    return kf.Data(*rows, name="few digits")


@pytest.fixture(scope="module")
def here(few):
    """What one process gives; each search is made once for both clusters."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = told(SEARCHES[name](1)(kf.models.mlp, few))
        return made[name]

    return get


@pytest.fixture(scope="module")
def dask():
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    from dask import config

    with (
        config.set({"distributed.scheduler.allowed-failures": 1}),  # of 3: a worker takes seconds to come back
        distributed.LocalCluster(n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        yield


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=["dask", "ray"])
def cluster(request):
    request.getfixturevalue(request.param)
    with joblib.parallel_config(request.param):
        yield request.param


def told(found):
    """The trials' settings and what became of them, their figures, and the winner's weights."""
    model, report = found
    rows = sorted(report.tables["trials"], key=lambda row: row["model"])
    keep = ("model", "status", "epochs", "build__units", "training__learning_rate")
    figures = [[row.get(name, np.nan) for name in ("validation/accuracy", "validation/log_loss")] for row in rows]
    return [[row.get(name) for name in keep] for row in rows], figures, model.get_weights(), report.tables["front"][0]["model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_a_cluster_gives_the_trials_and_the_winner_of_one_process(name, few, here, cluster):
    rows, figures, weights, winner = told(SEARCHES[name](2)(kf.models.mlp, few))
    assert rows == here(name)[0] and winner == here(name)[3]
    np.testing.assert_allclose(figures, here(name)[1], rtol=1e-5)
    for mine, theirs in zip(weights, here(name)[2], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.slow
def test_sklearns_search_has_the_scores_of_one_process(few, cluster):
    settings, (x, y, _) = {"n_trials": 3, "cv": 2, "random_state": 0, "refit": False}, few.train.head(120)
    estimator = kf.KerasClassifier(kf.models.mlp, training=kf.Train(epochs=1))
    found = kf.SearchCV(estimator, SPACE, n_jobs=2, **settings).fit(x, y)
    with joblib.parallel_config("loky"):
        alone = kf.SearchCV(estimator, SPACE, **settings).fit(x, y)
    assert found.cv_results_["params"] == alone.cv_results_["params"]
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-5)


@pytest.mark.slow
def test_a_trial_whose_worker_died_runs_again_and_one_that_always_kills_it_fails(few, cluster, tmp_path):
    parent, once, always = os.getpid(), tmp_path / "once", tmp_path / "always"

    def build(data, units=4, seed=0):
        from kdfuse.models.mlp import mlp

        # Not in the process that only counts its parameters.
        if os.getpid() != parent and (units == 8 or (units == 6 and not once.exists())):
            with (once if units == 6 else always).open("a") as file:
                file.write(f"{os.getpid()}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return mlp(data, units=units, seed=seed)

    settings = {"vectorized": False, "stop_hopeless": False}
    with pytest.warns(UserWarning, match="A worker was lost; its trial is given up"):
        rows = told(kf.GridSearch(kf.Train(epochs=1), {"build__units": [5, 6, 7, 8]}, n_jobs=2, **settings)(build, few))
    with joblib.parallel_config("loky"):
        alone = told(kf.GridSearch(kf.Train(epochs=1), {"build__units": [5, 6, 7]}, **settings)(build, few))
    assert len(once.read_text().split()) == 1 and len(set(always.read_text().split())) > 1
    assert [row[1] for row in rows[0]] == ["finished", "finished", "finished", "failed"]
    assert rows[0][:3] == alone[0] and rows[3] == alone[3]
    np.testing.assert_allclose(rows[1][:3], alone[1], rtol=1e-5)


def test_workers_that_are_threads_of_this_process_are_refused(few):
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    search = kf.GridSearch(kf.Train(epochs=1), {"build__units": [5, 6]}, n_jobs=2, vectorized=False)
    with (
        distributed.LocalCluster(n_workers=1, processes=False, threads_per_worker=2, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
        pytest.raises(ValueError, match="`n_jobs`: expected workers in processes of their own"),
    ):
        search(kf.models.mlp, few)


class Threads:
    """A cluster of threads, that tells what it was asked for."""

    def __init__(self):
        self.pool, self.held, self.stopped = concurrent.futures.ThreadPoolExecutor(4), [], []

    def hold(self, value):
        self.held.append(value)
        return value

    def submit(self, function, *arguments):
        return self.pool.submit(function, *arguments)

    def stop(self, future):
        self.stopped.append(future)


def test_calls_stream_at_most_so_many_together_and_errors_are_given():
    threads, going, most = Threads(), [], []

    def call(number, offset):
        going.append(number)
        most.append(len(going))
        time.sleep(0.02)
        going.remove(number)
        return 1 // number + offset

    found = list(streamed(threads, call, ((number,) for number in range(6)), (10,), 2))
    assert sorted(one for one in found if isinstance(one, int)) == [10, 10, 10, 10, 11]
    assert [type(one) for one in found if not isinstance(one, int)] == [ZeroDivisionError]
    assert max(most) == 2 and threads.held == [10] and threads.stopped == []
    all_at_once = streamed(threads, call, ((number,) for number in range(1, 4)), (0,), -1)
    next(all_at_once)
    all_at_once.close()
    assert len(threads.stopped) == 2


@pytest.mark.slow
def test_two_searches_at_once_share_an_mlflow_store(tmp_path):
    from mlflow import MlflowClient

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "KDFUSE_"))}
    environment |= {"KDFUSE_HOME": str(tmp_path), "KDFUSE_DATA": os.environ.get("KDFUSE_DATA", ""), "MLFLOW_DISABLE_TELEMETRY": "true"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    searches = [subprocess.Popen([sys.executable, "-c", TRACKED, name], env=environment, **pipes) for name in ("random", "halving")]
    assert [search.stdout.readline() for search in searches] == ["ready\n"] * 2
    for search in searches:  # both begin now, and find no store
        search.stdin.write("\n")
        search.stdin.flush()
    errors = [search.communicate(timeout=250)[1] for search in searches]
    assert [search.returncode for search in searches] == [0, 0], errors
    assert "Recording failed" not in "".join(errors)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = {run.info.run_id: run for run in client.search_runs([client.get_experiment_by_name("two").experiment_id])}
    assert {run.info.status for run in found.values()} == {"FINISHED"}

    def path(run):
        parent = run.data.tags.get("mlflow.parentRunId")
        return (*(path(found[parent]) if parent else ()), run.info.run_name)

    trials = [(group, search, f"trial {number}") for group, search in TREE for number in range(4)]
    assert sorted(path(run) for run in found.values()) == sorted([*((group,) for group, _ in TREE), *TREE, *trials])


TREE = [("random", "RandomSearch"), ("halving", "HalvingSearch")]
