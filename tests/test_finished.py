import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.finished import Finished, keeping, kept
from kdfuse.keys import state_folder
from kdfuse.report import Report


def net(seed=0):
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(2, kernel_initializer=keras.initializers.RandomNormal(seed=seed))(inputs))


def test_what_is_put_is_taken(tmp_path):
    shelf, model = Finished(tmp_path / "steps"), net()
    report = Report("Prune", metrics={"test/accuracy": 0.5}, notes=["as it was"], name="2. Prune", children=[Report("Train")])
    assert shelf.take("a key") is None
    shelf.put("a key", model, report, {"kept_from_run": "1"})
    found, told, tags = shelf.take("a key")
    assert told == report and tags == {"kept_from_run": "1"} and shelf.taken == ["2. Prune"]
    for mine, theirs in zip(found.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert shelf.take("another key") is None


def test_several_models_come_back_as_a_tuple(tmp_path):
    shelf = Finished(tmp_path)
    shelf.put("two", (net(0), net(1)), Report("Born"), {})
    shelf.put("one of a tuple", (net(0),), Report("Born"), {})
    assert len(shelf.take("two")[0]) == 2 and isinstance(shelf.take("one of a tuple")[0], tuple)


def test_what_is_damaged_or_lacks_a_file_is_made_again(tmp_path):
    shelf = Finished(tmp_path / "steps")
    (tmp_path / "model.tflite").write_bytes(b"lite")
    shelf.put("key", net(), Report("Quantize", files={"tflite": tmp_path / "model.tflite"}), {})
    assert shelf.take("key") is not None
    (tmp_path / "model.tflite").unlink()
    assert shelf.take("key") is None
    shelf.put("key", net(), Report("Prune"), {})
    (tmp_path / "steps" / "key" / "0.keras").write_bytes(b"PK\x03\x04 half")
    with pytest.warns(UserWarning, match="made again"):
        assert shelf.take("key") is None


def test_what_cannot_be_kept_warns_and_leaves_nothing(tmp_path):
    (tmp_path / "steps").write_text("a file in the way")
    with pytest.warns(UserWarning, match="could not be kept"):
        Finished(tmp_path / "steps").put("key", net(), Report("Prune"), {})
    assert [path.name for path in tmp_path.iterdir()] == ["steps"]


def test_keeping_holds_in_its_block(tmp_path):
    shelf = Finished(tmp_path)
    with keeping(shelf):
        assert kept() is shelf
        with keeping(None):
            assert kept() is None
    assert kept() is None


def test_the_state_of_a_step_that_was_kept_is_dropped_where_the_kill_left_it(tmp_path):
    data, model = kf.datasets.load("digits", labels=100), kf.Train(epochs=1)
    shelf, built = Finished(tmp_path), kf.models.mlp(data, units=2)
    with keeping(shelf):
        model(built, data)
        (key,) = [path.name for path in tmp_path.iterdir()]
        left = state_folder(key) / "fit-0"
        left.mkdir(parents=True)
        model(built, data)
    assert len(shelf.taken) == 1 and not left.exists()


CHAIN = """
import os, signal, sys
import kdfuse as kf
from kdfuse.technique import Technique

data = kf.datasets.load("digits")
apply = Technique.__call__

def counted(self, model, data, **settings):
    name = type(self).__name__
    if name != "Chain" and name == os.environ.get("KILL_BEFORE"):
        os.kill(os.getpid(), signal.SIGKILL)
    return apply(self, model, data, **settings)

Technique.__call__ = counted
chain = kf.Chain([kf.Train(epochs=2), kf.Prune(0.5, training=kf.Train(epochs=1)), kf.Cluster(4, training=kf.Train(epochs=1))])
model, report = chain(kf.models.mlp(data, units=6), data)
print("DONE", report.metrics["test/log_loss"], [child.name for child in report.children], report.notes[:1])
"""


@pytest.mark.slow
def test_a_chain_that_was_killed_goes_on_at_its_first_unfinished_step(tmp_path):
    (tmp_path / "chain.py").write_text(textwrap.dedent(CHAIN))

    def run(home, kill=""):
        environment = {**os.environ, "KDFUSE_HOME": str(tmp_path / home), "KDFUSE_TRACKING": "off", "KILL_BEFORE": kill}
        return subprocess.run([sys.executable, "chain.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)

    assert run("home", "Cluster").returncode == -signal.SIGKILL
    again, whole = run("home"), run("other")
    line, control = (next(one for one in done.stdout.splitlines() if one.startswith("DONE")) for done in (again, whole))
    assert "not made again: 1. Train, 2. Prune" in line and "not made again" not in control
    assert line.split()[1] == control.split()[1]
    assert line.partition("[")[2].partition("]")[0] == control.partition("[")[2].partition("]")[0]  # the same children
    assert not list((tmp_path / "home" / "state").glob("*"))
