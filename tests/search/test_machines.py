"""Beyond one machine: hosts of their own network, processes and files, made of Linux namespaces."""

import os
import shutil
import subprocess
import sys
import threading
import time

import joblib
import numpy as np
import pytest

import kdfuse as kf
from kdfuse import recording
from kdfuse.home import home
from tests.search.test_clusters import SEARCHES, told

HOSTS = (2, 3)
SCHEDULER = "tcp://10.213.0.1:18786"


def call(command):
    return subprocess.run(command.split(), capture_output=True).returncode == 0


@pytest.fixture
def network():
    """This host at 10.213.0.1 and two others that see it and each other."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or None in map(shutil.which, ("ip", "unshare", "mount")):
        pytest.skip("hosts made of namespaces need Linux, root and iproute2")
    if not call("ip link add kdfuse0 type bridge"):
        pytest.skip("this system lets nobody make networks")
    lines = ["link set kdfuse0 up", "addr add 10.213.0.1/24 dev kdfuse0"]
    for at in HOSTS:
        lines += [
            f"netns add kdfuse{at}",
            f"link add kdf{at} type veth peer name out netns kdfuse{at}",
            f"link set kdf{at} master kdfuse0 up",
        ]
        lines += [f"-n kdfuse{at} {line}" for line in (f"addr add 10.213.0.{at}/24 dev out", "link set out up", "link set lo up")]
    try:
        for line in lines:
            assert call(f"ip {line}"), line
        yield
    finally:
        for name in (*(f"netns del kdfuse{at}" for at in HOSTS), "link del kdfuse0"):
            call(f"ip {name}")


@pytest.fixture
def hosts(network, tmp_path):
    """A client of a Dask cluster with one worker on each host, whose home and temporary files are its own."""
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    dask, quiet = [sys.executable, "-m", "dask"], ["--no-dashboard"]
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10 seconds", "PYTHONPATH": os.getcwd()}
    started = []
    with (tmp_path / "log").open("w") as log:

        def start(*command, **more):
            started.append(subprocess.Popen(command, env=environment | more, stdout=log, stderr=log))

        start(*dask, "scheduler", "--host", "10.213.0.1", "--port", "18786", *quiet)
        for at in HOSTS:
            worker = [*dask, "worker", SCHEDULER, "--host", f"10.213.0.{at}", "--nthreads", "1", "--no-nanny", *quiet]
            script = f"mount -t tmpfs none /tmp && mkdir /tmp/home && cd /tmp/home && exec {' '.join(worker)} --local-directory /tmp/home"
            apart = ["ip", "netns", "exec", f"kdfuse{at}", "unshare", "-m", "sh", "-c", script]
            start(*apart, HOME="/tmp/home", KDFUSE_HOME="/tmp/home/kdfuse")
        try:
            with distributed.Client(SCHEDULER, timeout=60) as client:
                client.wait_for_workers(len(HOSTS), timeout=90)
                yield client
        finally:
            for process in reversed(started):
                process.kill()
                process.wait()
    print((tmp_path / "log").read_text()[-5000:])


@pytest.fixture
def few():
    digits = kf.datasets.load("digits")
    rows = [(part.x[:count], part.y[:count]) for part, count in ((digits.train, 256), (digits.validation, 128), (digits.test, 128))]
    return kf.Data(*rows, name="few digits")


def same(found, alone):
    assert found[0] == alone[0] and found[3] == alone[3]
    np.testing.assert_allclose(found[1], alone[1], rtol=1e-5)
    for mine, theirs in zip(found[2], alone[2], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.slow
def test_hosts_that_share_no_files_give_the_trials_and_the_winner_of_one_process(hosts, few):
    for name, make in SEARCHES.items():
        with joblib.parallel_config("dask"), recording.use(recording.Memory()) as memory:
            found = told(make(len(HOSTS))(kf.models.mlp, few))
        same(found, told(make(1)(kf.models.mlp, few)))
        notes = [note for hook, (run, *_) in memory.events if hook == "end" and run.report is not None for note in run.report.notes]
        assert ("Resumed at epoch 2 of 2." in notes) == (name == "halving"), notes
    assert set(hosts.run(left_behind).values()) == {""}


def left_behind():
    """In a worker: the checkpoints on its host."""
    return " ".join(map(str, home().rglob("*.ckpt")))


@pytest.mark.slow
def test_the_trial_of_a_host_that_fell_silent_runs_on_another(hosts, few):
    parent = os.getpid()

    def build(data, units=4, seed=0):
        from kdfuse.models.mlp import mlp

        if os.getpid() != parent:
            time.sleep(4)
        return mlp(data, units=units, seed=seed)

    search = kf.GridSearch(kf.Train(epochs=1), {"build__units": [5, 6, 7, 8]}, n_jobs=2, vectorized=False, stop_hopeless=False)
    cut = threading.Timer(6, call, ["ip link set kdf3 down"])
    cut.start()
    with joblib.parallel_config("dask"):
        found = told(search(build, few))
    cut.join()
    assert [name for name in hosts.scheduler_info()["workers"] if "10.213.0.3" in name] == []
    with joblib.parallel_config("loky"):
        same(
            found,
            told(kf.GridSearch(kf.Train(epochs=1), {"build__units": [5, 6, 7, 8]}, vectorized=False, stop_hopeless=False)(build, few)),
        )
