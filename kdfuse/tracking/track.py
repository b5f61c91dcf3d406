"""Groups of runs: `with kdfuse.track("experiment", run="…")`."""

import contextlib
import hashlib
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kdfuse import recording
from kdfuse.home import home
from kdfuse.report import Report
from kdfuse.tracking.compare import view
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.store import Destination


@contextlib.contextmanager
def track(
    experiment: str, run: str | None = None, tags: Mapping[str, str] | None = None, *, resume: bool = False
) -> Iterator[recording.Run]:
    """Make the runs in this block children of one run in an experiment.

    The group's row shows the figures of its best child. At the end, how to compare the runs is printed, with links to MLflow's pages,
    and a view of the experiment with the columns that matter is saved there. `KDFUSE_TRACKING=off`, `kdfuse.silence()` and a recorder
    given by `recording.use` stay in force.

    Args:
        experiment: MLflow's experiment; made where it is missing.
        run: the group's name; by default the experiment's.
        tags: free text by name.
        resume: calls of techniques that finished in a block of the same experiment and run that was killed or failed are not made
            again: they give what they gave, where their settings, models and data (arrays) are the same. What is kept for that is
            dropped when a block ends well, and at the beginning of one with `resume=False`.

    Yields:
        The group's run.

    Example:
        with kdfuse.track("digits", run="three widths"):
            for units in (10, 30, 100):
                kdfuse.Train()(kdfuse.models.mlp(data, units=units), data)
    """
    if not isinstance(experiment, str) or not experiment.strip():
        raise ValueError(f"`experiment`: expected the name of an MLflow experiment. Received: experiment={experiment!r}.")
    if not isinstance(resume, bool):
        raise TypeError(f"`resume`: expected True or False. Received: resume={resume!r}.")
    folder = home("state", "track-" + hashlib.sha256(repr((experiment, run)).encode()).hexdigest()[:32])
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    ambient = recording.recorder()
    recorder: recording.Recorder = ambient
    if isinstance(ambient, MlflowRecorder) and ambient.experiment != experiment:
        recorder = MlflowRecorder(experiment, ambient.uri)
    with recording.use(recorder):
        with recording.run(run or experiment, "track", {}, None, dict(tags or {})) as group:
            try:
                with _keeping(folder if resume else None):
                    yield group
            except BaseException:
                winner = best(group.children)
                if winner is not None:
                    group.log(winner.metrics)
                raise
            group.report = summary(group)
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(recorder, MlflowRecorder) and group.parent is None:
            print("\n".join(farewell(group, Destination.current(recorder.experiment, recorder.uri))))


@contextlib.contextmanager
def _keeping(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    from kdfuse.finished import Finished, keeping

    with keeping(Finished(folder)):
        yield


def farewell(group: recording.Run, destination: Destination) -> list[str]:
    """What is printed at the end of a group: how to compare its runs, in the terminal and in MLflow."""
    count = len(group.children)
    lines = [f"{count} run{'s' if count != 1 else ''} in experiment {destination.experiment!r}."]
    if any(child.metrics for child in group.children):
        lines[0] += f" Compare: kdfuse compare {shlex.quote(destination.experiment)}"
    try:
        found = view.ready(group, destination)
    except Exception:  # the runs are safe, and a link is no reason to fail
        found = {}
    if not found:
        return [*lines, "MLflow has not received all of it yet; what is missing: kdfuse sync"]
    if not destination.uri.startswith("http"):
        lines.append("In MLflow, while `kdfuse ui` runs:")
    return lines + [f"  {name:<8}  {link}" for name, link in found.items()]


def best(children: Sequence[Report]) -> Report | None:
    """The child with the best accuracy on the validation split; where that was not measured, the last one with figures."""
    measured = [child for child in children if child.metrics]
    ranked = [child for child in measured if "validation/accuracy" in child.metrics]
    if ranked:
        return max(ranked, key=lambda child: child.metrics["validation/accuracy"])
    return measured[-1] if measured else None


def summary(group: recording.Run) -> Report:
    """The group as a report: a row for each child, and the figures of the best."""
    winner = best(group.children)
    rows = [{"model": child.name or child.technique, **child.metrics} for child in group.children if child.metrics]
    return Report(
        technique="track",
        metrics=dict(winner.metrics) if winner else {},
        tables={"models": rows} if rows else {},
        notes=[f"The figures are those of the best child: {winner.name or winner.technique}."] if winner and len(rows) > 1 else [],
        seconds=sum(child.seconds for child in group.children),
        children=list(group.children),
        name=group.name,
    )
