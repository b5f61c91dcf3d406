"""kdfuse.recording: runs, whatever listens to them."""

import pickle
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from kdfuse import recording
from kdfuse.recording import Memory, Recorder, Run, Silence
from kdfuse.report import Report


class Broken(Recorder):
    """Fails whenever it is told something."""

    def start(self, run: Run) -> None:
        raise OSError("the server is away")

    log = tag = file = model = end = start  # type: ignore[assignment]

    def find(self, key: str) -> Report | None:
        raise OSError("the server is away")


@pytest.fixture
def memory() -> Any:
    with recording.use(Memory()) as recorder:
        yield recorder


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the default recorder for one test, with tracking on."""
    monkeypatch.delenv("KDFUSE_TRACKING")
    before = recording._default[0]
    yield recording.set_default
    recording.set_default(before)


def hooks(memory: Memory) -> list[str]:
    return [hook for hook, _ in memory.events]


def test_a_run_tells_its_recorder_everything_in_order(memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(b"png")
    with recording.run("mine", "Train", {"epochs": 3}, "key", {"data": "digits"}) as run:
        assert recording.current() is run
        run.log({"train/loss": 0.5}, step=0)
        run.log({"test/accuracy": 0.9})
        run.tag({"device": "cpu"})
        run.file(tmp_path / "plot.png", "plots")
        run.model("model", "rows")
        run.report = Report("Train")
    assert recording.current() is None
    assert hooks(memory) == ["start", "log", "log", "tag", "file", "model", "end"]
    assert memory.events[5][1][1:] == ("model", "rows", "model"), "the one model of a run is called so"
    assert memory.events[1][1][1:3] == ({"train/loss": 0.5}, 0) and memory.events[2][1][2] is None
    assert run.started <= memory.events[1][1][3] <= memory.events[-1][1][3]
    assert memory.events[-1][1][1:3] == ("finished", run.report)
    assert (run.settings, run.key, run.tags) == ({"epochs": 3}, "key", {"data": "digits", "device": "cpu"})


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("no"), "failed"), (KeyboardInterrupt(), "killed"), (SystemExit(1), "killed")],
)
def test_an_exception_ends_the_run_and_goes_on_up(memory: Memory, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), recording.run("outer") as outer, recording.run("inner") as inner:
        inner.report = Report("Train")
        raise error
    assert [(arguments[0].name, arguments[1], arguments[2]) for hook, arguments in memory.events if hook == "end"] == [
        ("inner", status, None),
        ("outer", status, None),
    ]
    assert outer.children == [] and recording.current() is None


def test_runs_nest_and_reports_go_to_the_parent(memory: Memory) -> None:
    with recording.run("outer") as outer:
        with recording.run("first") as first:
            first.report = Report("Train", name="first")
            assert first.parent is outer
        with pytest.raises(ValueError), recording.run("second"):
            raise ValueError("caught by the caller")
        with recording.run("third") as third:
            third.report = Report("Train", name="third")
            with recording.run("deep") as deep:
                deep.report = Report("Train", name="deep")
        assert recording.current() is outer
    assert [child.name for child in outer.children] == ["first", "third"]
    assert [child.name for child in third.children] == ["deep"]
    assert outer.parent is None and deep.parent is third
    assert len({outer.id, first.id, third.id, deep.id}) == 4


def test_a_recorder_that_fails_warns_once_and_ends_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with recording.use(Broken()):
            for _ in range(2):
                with recording.run("mine") as run:
                    run.log({"train/loss": 1.0}, step=0)
                    run.report = Report("Train")
            assert recording.find("key") is None
        assert run.report is not None
    assert [str(warning.message) for warning in caught] == [
        "Recording failed and is left out; training goes on. OSError: the server is away"
    ]


def test_tracking_off_is_silence_whatever_the_default(default: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Memory] = []
    default(lambda: made.append(Memory()) or made[-1])
    for off in ("off", "OFF", "0", "false", "no"):
        monkeypatch.setenv("KDFUSE_TRACKING", off)
        assert isinstance(recording.recorder(), Silence)
    assert made == []
    with recording.use(Memory()) as memory, recording.run("asked for by name"):
        pass
    assert hooks(memory) == ["start", "end"]


def test_the_default_recorder_is_made_once_when_the_first_run_begins(default: Any) -> None:
    made: list[Memory] = []
    default(lambda: made.append(Memory()) or made[-1])
    assert made == []
    for _ in range(2):
        with recording.run("mine"):
            pass
    assert len(made) == 1 and hooks(made[0]) == ["start", "end", "start", "end"]
    with recording.silence(), recording.run("unheard"):
        pass
    assert len(made[0].events) == 4


def test_a_default_that_cannot_be_made_warns_once(default: Any) -> None:
    def broken() -> Recorder:
        raise ImportError("no mlflow here")

    default(broken)
    with pytest.warns(UserWarning, match="No recorder could be made.*ImportError: no mlflow here"), recording.run("mine"):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with recording.run("again"):
            pass


def test_use_is_for_its_block_alone(memory: Memory) -> None:
    with recording.use(Memory()) as inner, recording.run("inner"):
        assert recording.recorder() is inner
    assert recording.recorder() is memory and memory.events == []


def test_another_thread_has_no_part_in_this_run(memory: Memory) -> None:
    seen: list[Any] = []
    with recording.run("mine"):
        thread = threading.Thread(target=lambda: seen.append(recording.current()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_finished_runs_are_found_by_key(memory: Memory) -> None:
    for name in ("old", "new"):
        with recording.run(name, key="key") as run:
            run.report = Report("Train", name=name)
    with pytest.raises(ValueError), recording.run("failed", key="other"):
        raise ValueError
    found = recording.find("key")
    assert found is not None and found.name == "new"
    assert recording.find("other") is None and Silence().find("key") is None


def test_a_memory_travels_and_is_told_again(memory: Memory, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    plot.write_bytes(b"png")
    with recording.run("outer"), recording.run("mine", key="key") as run:
        run.log({"train/loss": 0.5}, step=0)
        run.file(plot, "plots")
        run.report = Report("Train", metrics={"test/accuracy": 0.5})
    plot.unlink()
    again: Memory = pickle.loads(pickle.dumps(memory))

    class Reader(Memory):
        def file(self, run: Run, path: Path, folder: str) -> None:
            super().file(run, path, folder)
            read.append((path.name, path.read_bytes(), folder))

    read: list[tuple[str, bytes, str]] = []
    reader = Reader()
    again.replay(reader)
    assert hooks(reader) == hooks(memory) and read == [("plot.png", b"png", "plots")]
    told = [arguments[0] for hook, arguments in reader.events]
    assert told[0].name == "outer" and told[1].parent is told[0] and told[1].id == run.id
    assert isinstance(told[1].recorder, Silence)
    found = reader.find("key")
    assert found is not None and found.metrics == {"test/accuracy": 0.5}


def test_replaying_to_a_recorder_that_fails_warns_once(memory: Memory) -> None:
    with recording.run("mine"):
        pass
    with pytest.warns(UserWarning, match="the server is away") as caught:
        memory.replay(Broken())
    assert len(caught) == 1


def test_a_run_travels_without_its_recorder(memory: Memory) -> None:
    with recording.run("mine", settings={"a": 1}) as run:
        run.recorder.handle = threading.Lock()  # type: ignore[attr-defined]  # as the client of a server holds one
        again: Run = pickle.loads(pickle.dumps(run))
        del run.recorder.handle  # type: ignore[attr-defined]
    assert (again.name, again.id, again.settings) == ("mine", run.id, {"a": 1})
    again.log({"train/loss": 1.0})
    assert isinstance(again.recorder, Silence)


def test_a_memory_keeps_what_was_said_then(memory: Memory) -> None:
    values = {"train/loss": 1.0}
    with recording.run("mine") as run:
        run.log(values)
        values["train/loss"] = 2.0
    assert memory.events[1][1][1] == {"train/loss": 1.0}


def test_runs_that_go_on_in_turns_are_children_of_the_one_they_began_in():
    with recording.use(recording.Memory()) as memory:
        with recording.run("search") as parent:
            trials = [recording.begin(f"trial {place}") for place in range(2)]
            for trial in (*trials, trials[0]):
                with recording.within(trial):
                    assert recording.current() is trial
                assert recording.current() is parent
            trials[0].report, trials[1].report = Report("a"), Report("b")
            recording.finish(trials[0], "finished")
            recording.finish(trials[1], "finished", child=False)
        assert [trial.parent for trial in trials] == [parent, parent]
        assert [report.technique for report in parent.children] == ["a"]
        assert [hook for hook, _ in memory.events] == ["start", "start", "start", "end", "end", "end"]
