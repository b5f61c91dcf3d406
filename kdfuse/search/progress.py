"""Progress of a search on a terminal: trials done, the best so far, the time left."""

import os
import sys
from types import TracebackType
from typing import Any

from kdfuse.report import format_figure


class Progress:
    """A line that grows with each trial; nothing where standard error is no terminal or `KDFUSE_PROGRESS` is `off`.

    Args:
        total: trials expected.
        objective: the figure that is told of the best.
    """

    def __init__(self, total: int | None, objective: str) -> None:
        self.objective = objective
        self._bar: Any = None
        if not sys.stderr.isatty() or os.environ.get("KDFUSE_PROGRESS", "") == "off":
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns: list[Any] = [TextColumn("search"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")]
        columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, best: float | None) -> None:
        """One more trial has ended.

        Args:
            best: the best value of the objective so far, as it is measured.
        """
        if self._bar is not None:
            text = "" if best is None else f"best {self.objective} {format_figure(self.objective, best)}"
            self._bar.update(self._task, advance=1, description=text)
