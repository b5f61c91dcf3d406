"""Recording: every call of a technique is a run, told to whatever recorder is in force.

Nothing below `tracking/` knows MLflow. A technique opens a `run`; the events go to the ambient `Recorder`, by default
the one that `set_default` was given. A recorder that fails warns once and never ends a training run.
"""

import contextlib
import contextvars
import dataclasses
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from kdfuse.home import home, mend
from kdfuse.report import Report

Status = Literal["finished", "failed", "killed"]


class Recorder:
    """Receives what happens in runs. Every hook is empty: a recorder overrides those it wants."""

    def start(self, run: "Run") -> None:
        """A run begins; its `parent`, `settings` and `tags` are set."""

    def log(self, run: "Run", values: Mapping[str, float], step: int | None, moment: float) -> None:
        """Figures of a run, of an epoch where `step` is given. `moment` is in seconds since 1970."""

    def tag(self, run: "Run", tags: Mapping[str, str]) -> None:
        """Tags that became known while the run went on."""

    def file(self, run: "Run", path: Path, folder: str) -> None:
        """A file that belongs to the run. It may be gone when this hook returns."""

    def model(self, run: "Run", model: Any, inputs: Any, name: str) -> None:
        """A Keras model that the run made, a few rows of input for its signature, and what it is called in the run."""

    def end(self, run: "Run", status: Status, report: Report | None, moment: float) -> None:
        """The run is over; `report` is None unless it finished."""

    def find(self, key: str) -> Report | None:
        """The report of a finished run with this key, where the recorder remembers one."""
        return None


class Silence(Recorder):
    """Records nothing."""


class Memory(Recorder):
    """Keeps events in a list, to be replayed to another recorder (from a worker, in a test).

    Attributes:
        events: tuples of a hook's name and its arguments after `self`, in order.
        contents: the bytes of each recorded file by the index of its event; the file itself may soon be gone.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        self.contents: dict[int, bytes] = {}

    def start(self, run: "Run") -> None:
        self.events.append(("start", (run,)))

    def log(self, run: "Run", values: Mapping[str, float], step: int | None, moment: float) -> None:
        self.events.append(("log", (run, dict(values), step, moment)))

    def tag(self, run: "Run", tags: Mapping[str, str]) -> None:
        self.events.append(("tag", (run, dict(tags))))

    def file(self, run: "Run", path: Path, folder: str) -> None:
        self.contents[len(self.events)] = Path(path).read_bytes()
        self.events.append(("file", (run, path, folder)))

    def model(self, run: "Run", model: Any, inputs: Any, name: str) -> None:
        self.events.append(("model", (run, model, inputs, name)))

    def end(self, run: "Run", status: Status, report: Report | None, moment: float) -> None:
        self.events.append(("end", (run, status, report, moment)))

    def find(self, key: str) -> Report | None:
        for hook, arguments in reversed(self.events):
            if hook == "end" and arguments[0].key == key and arguments[1] == "finished":
                return arguments[2]  # type: ignore[no-any-return]
        return None

    def replay(self, recorder: Recorder) -> None:
        """Tell `recorder` everything that was recorded, in order. If it fails, it warns once, as in a run."""
        with tempfile.TemporaryDirectory() as folder:
            for index, (hook, arguments) in enumerate(self.events):
                if index in self.contents:
                    run, path, *rest = arguments
                    copy = Path(folder, str(index), Path(path).name)
                    copy.parent.mkdir()
                    copy.write_bytes(self.contents[index])
                    arguments = (run, copy, *rest)
                _tell(recorder, hook, *arguments)


@dataclasses.dataclass(eq=False)
class Run:
    """One run: a call of a technique, or a group of them.

    Attributes:
        name: what a person reads.
        technique: the technique's name, or `"track"` for a group.
        settings: flat settings, logged as parameters.
        key: what makes two runs the same: technique, settings, input model and data. None for a group.
        tags: free text by name.
        parent: the run this one is part of.
        id: unique, also across machines.
        started: seconds since 1970.
        counts: how often `next` was asked for each thing.
        children: the reports of finished runs inside this one.
    """

    name: str
    technique: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    key: str | None = None
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    parent: "Run | None" = None
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    started: float = dataclasses.field(default_factory=time.time)
    children: list[Report] = dataclasses.field(default_factory=list)
    report: Report | None = None
    counts: dict[str, int] = dataclasses.field(default_factory=dict, repr=False)
    recorder: Recorder = dataclasses.field(default_factory=Silence, repr=False)

    def next(self, what: str) -> int:
        """0 at the first call for `what` in this run, then 1, 2 ...: a number that is the same when the run is repeated."""
        self.counts[what] = self.counts.get(what, -1) + 1
        return self.counts[what]

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record figures, of epoch `step` where it is given."""
        self._tell("log", values, step, time.time())

    def tag(self, tags: Mapping[str, str]) -> None:
        """Record tags."""
        self.tags.update(tags)
        self._tell("tag", tags)

    def file(self, path: Path, folder: str = "") -> None:
        """Record a file, under `folder` of the run's files."""
        self._tell("file", path, folder)

    def model(self, model: Any, inputs: Any = None, name: str = "model") -> None:
        """Record a model that the run made; `inputs`: a few rows for its signature; `name`: one of its own for each of several."""
        self._tell("model", model, inputs, name)

    def _tell(self, hook: str, *arguments: Any) -> None:
        _tell(self.recorder, hook, self, *arguments)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "recorder": Silence()}


def _tell(recorder: Recorder, hook: str, *arguments: Any) -> None:
    try:
        getattr(recorder, hook)(*arguments)
    except Exception as error:
        if not getattr(recorder, "_kdfuse_warned", False):
            with contextlib.suppress(AttributeError):
                recorder._kdfuse_warned = True  # type: ignore[attr-defined]
            told = f"{type(error).__name__}: {error}{mend(error, home())}"
            warnings.warn(f"Recording failed and is left out; training goes on. {told}", stacklevel=4)


_recorder: contextvars.ContextVar[Recorder | None] = contextvars.ContextVar("kdfuse_recorder", default=None)
_run: contextvars.ContextVar[Run | None] = contextvars.ContextVar("kdfuse_run", default=None)
_default: list[Callable[[], Recorder]] = [Silence]
_made: list[Recorder] = []


def set_default(factory: Callable[[], Recorder]) -> None:
    """Say how the default recorder is made. It is called once, when the first run begins."""
    _default[0] = factory
    _made.clear()


def current() -> Run | None:
    """The innermost run that is going on, if any."""
    return _run.get()


def recorder() -> Recorder:
    """The recorder in force: of `use`, else the default; `Silence` where `KDFUSE_TRACKING` is `off`."""
    given = _recorder.get()
    if given is not None:
        return given
    if os.environ.get("KDFUSE_TRACKING", "").lower() in ("off", "0", "false", "no"):
        return Silence()
    if not _made:
        try:
            _made.append(_default[0]())
        except Exception as error:
            warnings.warn(f"No recorder could be made; runs are not recorded. {type(error).__name__}: {error}", stacklevel=2)
            _made.append(Silence())
    return _made[0]


@contextlib.contextmanager
def use(recorder: Recorder) -> Iterator[Recorder]:
    """Record runs in this block with `recorder`."""
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Record no runs in this block."""
    with use(Silence()):
        yield


@contextlib.contextmanager
def run(
    name: str,
    technique: str = "track",
    settings: Mapping[str, Any] | None = None,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """Open a run, as a child of the current one.

    It ends as `finished`; as `failed` where an exception leaves the block; as `killed` for an interruption
    (`KeyboardInterrupt`, `SystemExit`). Set `run.report` inside the block: it is recorded at the end and joins the
    parent's `children`.
    """
    opened = begin(name, technique, settings, key, tags)
    status: Status = "finished"
    try:
        with within(opened):
            yield opened
    except Exception:
        status = "failed"
        raise
    except BaseException:
        status = "killed"
        raise
    finally:
        finish(opened, status)


def begin(
    name: str,
    technique: str = "track",
    settings: Mapping[str, Any] | None = None,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """Open a run, as a child of the current one, that `finish` ends: for what goes on in turns with others. `run` does both."""
    opened = Run(name, technique, dict(settings or {}), key, dict(tags or {}), _run.get(), recorder=recorder())
    opened._tell("start")
    return opened


@contextlib.contextmanager
def within(opened: Run) -> Iterator[Run]:
    """Make an open run the current one in this block."""
    token = _run.set(opened)
    try:
        yield opened
    finally:
        _run.reset(token)


def finish(opened: Run, status: Status, *, child: bool = True) -> None:
    """End a run. The report of a finished one joins its parent's `children`, unless `child` says otherwise."""
    if child and status == "finished" and opened.parent is not None and opened.report is not None:
        opened.parent.children.append(opened.report)
    opened._tell("end", status, opened.report if status == "finished" else None, time.time())


def find(key: str) -> Report | None:
    """The report of a finished run with this key, where the recorder in force remembers one."""
    try:
        return recorder().find(key)
    except Exception:
        return None
