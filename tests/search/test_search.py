import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import kdfuse as kf
from kdfuse import recording

KILLED = """
import kdfuse as kf

search = kf.RandomSearch(kf.Train(epochs=2), {"build__units": [5, 6, 7, 8]}, n_trials=4, vectorized=False)
search(kf.models.mlp, kf.datasets.load("digits"))
"""


@pytest.fixture(scope="module")
def searched(data, space, tmp_path_factory):
    """A search for accuracy and few MACs under a limit, with everything that it recorded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDFUSE_HOME", str(tmp_path_factory.mktemp("home")))
        search = kf.RandomSearch(kf.Train(epochs=3), space, n_trials=6, maximize="accuracy", minimize="macs", limits={"parameters": 1_500})
        with recording.use(recording.Memory()) as memory:
            best, report = search(kf.models.mlp, data)
        return best, report, memory


def test_the_winner_is_the_best_on_validation_within_the_limits(searched, data):
    best, report, _ = searched
    finished = [row for row in report.tables["trials"] if row["status"] == "finished"]
    assert len(finished) == 6 == report.metrics["search/trials"]
    assert report.metrics["validation/accuracy"] == pytest.approx(max(row["validation/accuracy"] for row in finished))
    assert all(row["size/parameters"] <= 1_500 for row in finished)
    assert any("parameters than the limit" in note for note in report.notes)
    scores = np.asarray(best(data.validation.x)).argmax(axis=-1) == data.validation.y
    assert scores.mean() == pytest.approx(report.metrics["validation/accuracy"])


def test_the_front_is_measured_on_test_and_its_models_are_files(searched, data):
    _, report, _ = searched
    rows = report.tables["front"]
    for place, row in enumerate(rows[1:]):
        assert row["cost/macs"] < rows[place]["cost/macs"] and row["validation/accuracy"] < rows[place]["validation/accuracy"]
    assert all("test/accuracy" in row for row in rows)
    assert not any("test/accuracy" in row for row in report.tables["trials"])
    for row in rows if len(rows) > 1 else ():
        model = kf.load_model(report.files[f"front/{row['model']}"])
        found = np.asarray(model(data.test.x)).argmax(axis=-1) == data.test.y
        assert found.mean() == pytest.approx(row["test/accuracy"])


def test_each_trial_is_a_run_without_a_model_and_the_winner_is_told(searched):
    _, report, memory = searched
    starts = [arguments[0] for hook, arguments in memory.events if hook == "start"]
    parent, trials = starts[0], starts[1:]
    assert parent.technique == "RandomSearch" and len(trials) == 6 and {run.parent.id for run in trials} == {parent.id}
    assert set(trials[0].settings) == {"build__units", "build__activation", "training__learning_rate"}
    assert [arguments[0] for hook, arguments in memory.events if hook == "model"] == [parent]
    assert parent.tags["winner.build__units"] == str(report.tables["front"][0]["build__units"])
    assert report.children == []
    assert parent.settings["space__build__units__low"] == 4


def test_the_same_seed_gives_the_same_search(searched, data, space):
    _, report, _ = searched
    again = kf.RandomSearch(kf.Train(epochs=3), space, n_trials=6, maximize="accuracy", minimize="macs", limits={"parameters": 1_500})
    _, other = again(kf.models.mlp, data)
    keep = ("model", "build__units", "training__learning_rate", "validation/accuracy")
    assert [[row[name] for name in keep] for row in other.tables["trials"]] == [
        [row[name] for name in keep] for row in report.tables["trials"]
    ]


def test_a_killed_search_goes_on_with_nothing_lost_and_nothing_twice(data, tmp_path, monkeypatch):
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", KILLED], env={**os.environ, "KDFUSE_TRACKING": "off"}, stderr=subprocess.DEVNULL)
    ended: list[str] = []
    while process.poll() is None and len(ended) < 2:
        time.sleep(0.02)
        ended = [line for path in tmp_path.rglob("trials.jsonl") for line in path.read_text().splitlines()]
    process.kill()
    assert process.wait() == -signal.SIGKILL and 2 <= len(ended) < 4
    search = kf.RandomSearch(kf.Train(epochs=2), {"build__units": [5, 6, 7, 8]}, n_trials=4, vectorized=False)
    with recording.use(recording.Memory()) as memory:
        _, report = search(kf.models.mlp, data)
    started = {arguments[0].name for hook, arguments in memory.events if hook == "start"}
    assert len(started) == 1 + 4 - len(ended)
    assert f"{len(ended)} trials had ended before this call, and were taken as they were." in report.notes
    assert not list(tmp_path.rglob("trials.jsonl"))
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path / "other"))
    _, whole = search(kf.models.mlp, data)
    told = ("model", "build__units", "validation/accuracy", "validation/log_loss")
    rows = [[[row[name] for name in told] for row in one.tables["trials"]] for one in (report, whole)]
    assert rows[0] == rows[1]
    assert report.metrics["test/accuracy"] == whole.metrics["test/accuracy"]


def test_a_failing_candidate_does_not_end_the_search(data):
    def build(data, units=4):
        if units == 5:
            raise ValueError("five is too many")
        return kf.models.mlp(data, units=units)

    _, report = kf.GridSearch(kf.Train(epochs=1), {"build__units": [4, 5]})(build, data)
    assert [row["status"] for row in report.tables["trials"]] == ["finished", "failed"]
    assert report.tables["trials"][1]["error"] == "ValueError: five is too many"
    assert any("1 trials failed. The first, trial 1: ValueError: five" in note for note in report.notes)


def test_where_all_fail_the_first_error_is_told(data):
    def build(data, units=4):
        raise ValueError("never")

    with pytest.raises(RuntimeError, match="all 2 trials failed. The first, trial 0: ValueError: never"):
        kf.GridSearch(kf.Train(epochs=1), {"build__units": [4, 5]})(build, data)


def test_where_no_candidate_keeps_the_limits_it_is_told(data):
    with pytest.raises(RuntimeError, match="no candidate keeps them; refused were 2 for their parameters"):
        kf.GridSearch(kf.Train(epochs=1), {"build__units": [40, 50]}, limits={"parameters": 100})(kf.models.mlp, data)
    with pytest.raises(RuntimeError, match="none of 1 models keeps them"):
        kf.GridSearch(kf.Train(epochs=1), {"build__units": [4]}, limits={"accuracy": 0.999})(kf.models.mlp, data)


def test_any_technique_is_a_trial_and_the_winner_can_be_refitted(data):
    model = kf.models.mlp(data, units=(16,))
    search = kf.GridSearch(kf.Shrink(training=kf.Train(epochs=1)), {"keep": [0.5, 0.25]}, minimize="parameters", refit=True)
    best, report = search(model, data)
    assert best.count_params() < model.count_params()
    assert report.tables["front"][0]["keep"] == 0.25
    assert "shrink/units" in report.metrics
    assert [child.technique for child in report.children][-1] == "Shrink"
    assert {row["how"] for row in report.tables["trials"]} == {"alone"}


def test_a_teacher_is_asked_once_for_all_trials(data):
    teacher = kf.models.mlp(data, units=(8,), seed=5)
    search = kf.GridSearch(kf.Distill(teacher, training=kf.Train(epochs=1)), {"losses__0__temperature": [2.0, 4.0]}, refit=True)
    _, report = search(kf.models.mlp, data)
    notes = [row for row in report.notes if "teacher" in row]
    assert any("taken from memory" in note for note in notes)
    assert "delta/teacher/test/accuracy" in report.metrics


def test_time_is_up(data, space):
    with pytest.raises(RuntimeError, match="No trial"):
        kf.RandomSearch(kf.Train(epochs=1), space, n_trials=3, timeout=1e-9)(kf.models.mlp, data)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: kf.RandomSearch(kf.Train()), TypeError, "`space`: expected a dict"),
        (lambda: kf.RandomSearch("train", {"a": [1]}), TypeError, "`technique`"),
        (lambda: kf.RandomSearch(kf.Train(), {"a": []}), ValueError, "'a'"),
        (lambda: kf.RandomSearch(kf.Train(), {"a": [1]}, n_jobs=0), ValueError, "`n_jobs`"),
        (lambda: kf.RandomSearch(kf.Train(), {"a": [1]}, timeout=0), ValueError, "`timeout`"),
        (lambda: kf.RandomSearch(kf.Train(), {"a": [1]}, n_trials=0), ValueError, "`n_trials`"),
        (lambda: kf.RandomSearch(kf.Train(), {"a": [1]}, seed=-1), ValueError, "`seed`"),
        (lambda: kf.RandomSearch(kf.Train(), {"a": [1]}, vectorized=1), TypeError, "`vectorized`"),
        (lambda: kf.RandomSearch(kf.Train(), {"a": [1]}, stop_hopeless=1), TypeError, "`stop_hopeless`"),
        (lambda: kf.RandomSearch(kf.Train(), {"a": [1]}, n_trial=3), TypeError, "'n_trials'"),
    ],
)
def test_bad_settings_say_what_is_wrong(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_bad_models_and_data_say_what_is_wrong(data, space):
    search = kf.RandomSearch(kf.Train(epochs=1), space)
    with pytest.raises(TypeError, match="a builder such as"):
        search("mlp", data)
    with pytest.raises(TypeError, match="a builder such as"):
        search(None, data)
    with pytest.raises(TypeError, match=r"kdfuse.Data"):
        search(kf.models.mlp, (1, 2))
    with pytest.raises(ValueError, match="one at a time"):
        kf.RandomSearch(kf.Train(epochs=1), space, minimize="p50_ms", n_jobs=2)(kf.models.mlp, data)
    stream = kf.Data(data.train.dataset(32), data.validation.dataset(32))
    with pytest.raises(ValueError, match="`n_jobs`: a tf.data.Dataset cannot go to other processes"):
        kf.RandomSearch(kf.Train(epochs=1), space, n_jobs=2)(kf.models.mlp, stream)
    with pytest.raises(ValueError, match="`maximize`.*is not measured"):
        kf.GridSearch(kf.Train(epochs=1), {"build__units": [4]}, maximize="tflite/accuracy")(kf.models.mlp, data)


def test_techniques_that_are_choices_are_all_tried(data):
    _, report = kf.GridSearch(kf.Train(), {"technique": [kf.Train(epochs=1), kf.Train(epochs=2)]})(kf.models.mlp, data)
    assert sorted((row["technique"], row["epochs"]) for row in report.tables["trials"]) == [("Train", 1), ("Train (1)", 2)]


def test_settings_that_do_not_go_together_make_a_failed_trial(data):
    space = {"training__jit": [True], "training__deterministic": [False, True]}
    _, report = kf.GridSearch(kf.Train(epochs=1), space)(lambda data: kf.models.mlp(data, units=2), data)
    assert [row["status"] for row in report.tables["trials"]] == ["finished", "failed"]
    assert "no deterministic mode" in report.tables["trials"][1]["error"]


def test_a_model_that_the_technique_refuses_is_refused_before_the_first_trial(data):
    one_layer = kf.models.mlp(data, units=())
    with recording.use(recording.Memory()) as memory, pytest.raises(ValueError, match="no unit that may go"):
        kf.RandomSearch(kf.Shrink(), {"keep": kf.Float(0.2, 0.9)})(one_layer, data)
    assert not [hook for hook, _ in memory.events if hook == "start"]
