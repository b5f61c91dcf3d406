"""Groups of runs."""

from collections.abc import Callable
from typing import Any

import pytest

from kdfuse import recording
from kdfuse.recording import Memory, Silence
from kdfuse.report import Report
from kdfuse.tracking.compare import view
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.sender import sender
from kdfuse.tracking.store import Destination
from kdfuse.tracking.track import best, farewell, track


def child(name: str, **metrics: float) -> None:
    with recording.run(name, "Train") as run:
        run.report = Report(technique="Train", name=name, metrics={key.replace("__", "/"): value for key, value in metrics.items()})


def test_a_group_shows_the_best_child(database: str, runs: Callable[..., Any]) -> None:
    from mlflow import MlflowClient

    with recording.use(MlflowRecorder()), track("widths", run="three", tags={"why": "test"}) as group:
        assert recording.current() is group
        child("a", validation__accuracy=0.7, test__accuracy=0.71)
        child("b", validation__accuracy=0.9, test__accuracy=0.88)
        child("c", validation__accuracy=0.8)
    found = runs()
    assert set(found) == {"three", "a", "b", "c"}
    assert {run.data.tags.get("mlflow.parentRunId") for run in found.values()} == {None, found["three"].info.run_id}
    metrics = found["three"].data.metrics
    assert (metrics["validation/accuracy"], metrics["test/accuracy"]) == (0.9, 0.88)
    note = found["three"].data.tags["mlflow.note.content"]
    assert "| a | " in note and "best child: b" in note and found["three"].data.tags["kdfuse.why"] == "test"
    assert MlflowClient(tracking_uri=database).get_experiment(found["a"].info.experiment_id).name == "widths"


def test_a_group_that_fails_shows_what_it_has(database: str, runs: Callable[..., Any]) -> None:
    with recording.use(MlflowRecorder()), pytest.raises(RuntimeError), track("widths"):
        child("a", validation__accuracy=0.7)
        raise RuntimeError
    found = runs()["widths"]
    assert found.info.status == "FAILED" and found.data.metrics["validation/accuracy"] == 0.7


def test_silence_and_other_recorders_stay_in_force() -> None:
    with recording.use(Memory()) as memory, track("x") as group:
        child("a")
        assert isinstance(group.recorder, Memory)
    assert isinstance(memory, Memory) and [hook for hook, _ in memory.events] == ["start", "start", "end", "end"]
    with recording.silence(), track("x") as group:
        assert isinstance(group.recorder, Silence)
    with track("x") as group:  # KDFUSE_TRACKING=off
        assert isinstance(group.recorder, Silence)


def test_the_ambient_recorder_returns(database: str) -> None:
    with recording.use(MlflowRecorder("mine")) as mine:
        with track("theirs"):
            assert recording.recorder() is not mine
        assert recording.recorder() is mine


def test_the_end_tells_how_to_compare(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow import MlflowClient

    with recording.use(MlflowRecorder()), track("two widths"):
        with track("two widths", run="inner"):
            child("c", validation__accuracy=0.7)
        child("a", validation__accuracy=0.7, test__accuracy=0.71)
        child("b", validation__accuracy=0.9, test__accuracy=0.88)
    sender().wait()
    experiment = MlflowClient(tracking_uri=database).get_experiment_by_name("two widths")
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "3 runs in experiment 'two widths'. Compare: kdfuse compare 'two widths'" and len(told) == 4
    assert f"/#/experiments/{experiment.experiment_id}/runs?" in told[2] and "viewStateShareKey=kdfuse" in told[2]
    assert "/#/compare-runs?runs=" in told[3] and "mlflow.sharedViewState.kdfuse" in experiment.tags


def test_where_mlflow_is_away_the_end_says_so(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise OSError

    monkeypatch.setattr(view, "ready", broken)
    told = farewell(recording.Run("group", "track"), Destination("sqlite:///x.db", "x"))
    assert told == ["0 runs in experiment 'x'.", "MLflow has not received all of it yet; what is missing: kdfuse sync"]


def test_best() -> None:
    reports = [Report(name=str(i), metrics=metrics) for i, metrics in enumerate([{"test/rmse": 1.0}, {"test/rmse": 3.0}, {}])]
    assert best(reports) is reports[1] and best([]) is None


def test_an_experiment_needs_a_name() -> None:
    with pytest.raises(ValueError, match="`experiment`"), track(" "):
        pass


def test_calls_that_finished_before_an_interruption_are_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import kdfuse as kf
    from kdfuse.train import Train

    data = kf.datasets.load("digits", labels=100)
    made: list[str] = []
    apply = Train.apply
    monkeypatch.setattr(Train, "apply", lambda self, *given: made.append("training") or apply(self, *given))

    def story(fails: bool, resume: bool = True) -> list[float]:
        with track("story", run="two", resume=resume) as group:
            first, _ = kf.Train(epochs=1)(kf.models.mlp(data, units=4), data)
            if fails:
                raise KeyboardInterrupt
            kf.Train(epochs=1, seed=1)(first, data)
        return [child.metrics["test/log_loss"] for child in group.children]

    for resume in (True, False):
        made.clear()
        with pytest.raises(KeyboardInterrupt):
            story(fails=True, resume=True)
        figures = story(fails=False, resume=resume)
        assert len(made) == (2 if resume else 3)  # the first one once, or twice
    made.clear()
    assert story(fails=False) == figures and len(made) == 2  # a block that ended well keeps nothing


def test_resume_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="`resume`"), track("x", resume="yes"):  # type: ignore[arg-type]
        pass
