"""Where runs go, and making it exist."""

import subprocess
import sys
from pathlib import Path

import pytest

from kdfuse.home import home
from kdfuse.tracking.store import Destination, Store, anchored, count_runs, shown, sqlite_path

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KDFUSE_EXPERIMENT"):
        monkeypatch.delenv(name, raising=False)


def test_by_default_a_database_in_the_home() -> None:
    found = Destination.current()
    assert found == Destination(f"sqlite:///{home('mlflow.db')}", "kdfuse", home("artifacts").as_uri())


def test_environment_and_arguments_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert Destination.current() == Destination("http://somewhere:5000", "theirs", None)
    monkeypatch.setenv("KDFUSE_EXPERIMENT", "ours")
    assert Destination.current().experiment == "ours"
    assert Destination.current("mine", "http://other").experiment == "mine"


def test_a_relative_database_does_not_follow_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert anchored("sqlite:///runs.db") == f"sqlite:///{tmp_path / 'runs.db'}"
    assert anchored("postgresql://u:p@h/db") == "postgresql://u:p@h/db"
    assert sqlite_path("sqlite:///:memory:") is None


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://user:secret@host/db") == "postgresql://***@host/db"
    assert shown("http://host:5000") == "http://host:5000"


def test_nothing_is_made_in_the_working_directory(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(Destination.current("x"))
    run = store.client.create_run(store.experiment)
    store.client.log_text(run.info.run_id, "hello", "a.txt")
    assert list(tmp_path.iterdir()) == []
    assert (home("artifacts") / run.info.run_id / "artifacts" / "a.txt").read_text() == "hello"


def test_a_deleted_experiment_comes_back(database: str) -> None:
    first = Store(Destination.current("x"))
    first.client.delete_experiment(first.experiment)
    assert Store(Destination.current("x")).experiment == first.experiment


def test_one_that_is_deleted_while_its_store_is_open_takes_the_next_run(database: str) -> None:
    store = Store(Destination.current("x"))
    store.client.delete_experiment(store.experiment)
    run = store.begin(1000, {"kdfuse.run_id": "a"}, "next")
    assert store.find("a").info.run_id == run.info.run_id and run.info.run_name == "next"


def test_count_runs(database: str, tmp_path: Path) -> None:
    store = Store(Destination.current("x"))
    for _ in range(3):
        store.client.create_run(store.experiment)
    assert count_runs(database) == 3
    assert count_runs(f"sqlite:///{tmp_path / 'none.db'}") is None and not (tmp_path / "none.db").exists()


def test_a_run_is_found_by_its_tag(database: str) -> None:
    store = Store(Destination.current("x"))
    made = store.client.create_run(store.experiment, tags={"kdfuse.run_id": "abc"})
    assert store.find("abc").info.run_id == made.info.run_id
    assert store.find("abd") is None


def test_six_processes_may_meet_an_empty_store() -> None:
    code = """
import os, sys, threading
import mlflow  # before the fork, so that all six arrive at the store together
from kdfuse.tracking.store import Destination, Store
read, write = os.pipe()
children = []
for _ in range(6):
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        try:
            store = Store(Destination.current("six"))
            store.client.create_run(store.experiment)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(write)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    store = Store(Destination.current("six"))
    assert len(store.client.search_runs([store.experiment])) == 6
    assert {found.name for found in store.client.search_experiments()} == {"six", "Default"}
