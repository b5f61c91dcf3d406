"""Groups of runs: `with kdfuse.track("experiment", run="…")`."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence

from kdfuse import recording
from kdfuse.report import Report
from kdfuse.tracking.mlflow_recorder import MlflowRecorder


@contextlib.contextmanager
def track(experiment: str, run: str | None = None, tags: Mapping[str, str] | None = None) -> Iterator[recording.Run]:
    """Make the runs in this block children of one run in an experiment.

    The group's row shows the figures of its best child. `KDFUSE_TRACKING=off`, `kdfuse.silence()` and a recorder given by
    `recording.use` stay in force.

    Args:
        experiment: MLflow's experiment; made where it is missing.
        run: the group's name; by default the experiment's.
        tags: free text by name.

    Yields:
        The group's run.

    Example:
        with kdfuse.track("digits", run="three widths"):
            for units in (10, 30, 100):
                kdfuse.Train()(kdfuse.models.mlp(data, units=units), data)
    """
    if not isinstance(experiment, str) or not experiment.strip():
        raise ValueError(f"`experiment`: expected the name of an MLflow experiment. Received: experiment={experiment!r}.")
    ambient = recording.recorder()
    recorder: recording.Recorder = ambient
    if isinstance(ambient, MlflowRecorder) and ambient.experiment != experiment:
        recorder = MlflowRecorder(experiment, ambient.uri)
    with recording.use(recorder):
        with recording.run(run or experiment, "track", {}, None, dict(tags or {})) as group:
            try:
                yield group
            except BaseException:
                winner = best(group.children)
                if winner is not None:
                    group.log(winner.metrics)
                raise
            group.report = summary(group)
        if isinstance(recorder, MlflowRecorder) and sys.stdout.isatty():
            print(f"{len(group.children)} runs in experiment {experiment!r}. Look at them: kdfuse ui")


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
