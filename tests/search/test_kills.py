"""Searches that are really killed, wherever they are, end as those that were not."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import kdfuse as kf

MADE = """
import kdfuse as kf

space = {"build__units": [5, 6, 7, 8, 9, 10], "training__learning_rate": kf.Float(1e-4, 1e-1, log=True)}
halving = {"max_epochs": 4, "eta": 2, "n_trials": 6, "refit": False, "seed": 2}
searches = {
    "alone": kf.HalvingSearch(kf.Train(), space, vectorized=False, **halving),
    "not live": kf.HalvingSearch(kf.Train(), space, vectorized=False, live=False, **halving),
    "two objectives": kf.HalvingSearch(kf.Train(), space, vectorized=False, maximize="accuracy", minimize="parameters", **halving),
    "team": kf.HalvingSearch(kf.Train(), space, **halving),
    "hyperband": kf.HalvingSearch(kf.Train(), space, **{**halving, "n_trials": None}, hyperband=True, vectorized=False),
    "hopeless": kf.RandomSearch(kf.Train(epochs=4), space, n_trials=12, vectorized=False, seed=2),
    "bayes": kf.BayesSearch(kf.Train(epochs=2), space, n_trials=7, batch=2, vectorized=False, seed=2),
}
data = kf.datasets.load("digits", labels=150)
"""
NAMES = re.findall(r'^    "([a-z ]+)": kf', MADE, re.M)


def told(found):
    model, report = found
    keep = ("model", "status", "epochs", "build__units", "training__learning_rate", "validation/accuracy")
    rows = sorted(([row.get(name) for name in keep] for row in report.tables["trials"]), key=str)
    return rows, [row["validation/log_loss"] for row in report.tables["front"]], report.metrics["search/epochs"], model.get_weights()


def ended(folder):
    return [line for path in folder.rglob("trials.jsonl") for line in path.read_text().splitlines()]


def killed(name, folder, lines):
    """Run a search in another process, and kill it once its ledger has so many lines; how many it has."""
    environment = {**os.environ, "KDFUSE_TRACKING": "off", "KDFUSE_HOME": str(folder)}
    code = f"{MADE}\nsearches[{name!r}](kf.models.mlp, data)"
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(ended(folder)) < lines:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the search had ended"
    return len(ended(folder))


def made(name):
    space = {}
    exec(MADE, space)
    return told(space["searches"][name](kf.models.mlp, space["data"]))


def same(one, other):
    assert one[0] == other[0]
    assert one[2] == other[2]
    np.testing.assert_allclose(one[1], other[1], rtol=1e-5)
    for mine, theirs in zip(one[3], other[3], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_search_killed_again_and_again_ends_as_one_that_was_not(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path / "whole"))
    whole = made(name)
    home, lines = tmp_path / "killed", 1
    while lines < {"team": 7, "bayes": 6}.get(name, 12):
        lines = killed(name, home, lines) + 3
    monkeypatch.setenv("KDFUSE_HOME", str(home))
    same(made(name), whole)
    assert not list(home.rglob("trials.jsonl")) and not list(home.rglob("*.ckpt"))
