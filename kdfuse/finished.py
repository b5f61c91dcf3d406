"""Calls that finished inside something longer: kept on disk until all of it ends, so that after a kill they need not be made again."""

import contextlib
import contextvars
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdfuse.export.keras_file import load_model, save_model
from kdfuse.home import write_atomic
from kdfuse.report import Report

_kept: contextvars.ContextVar["Finished | None"] = contextvars.ContextVar("kdfuse_finished", default=None)


class Finished:
    """The finished calls of one longer run, by their keys.

    Args:
        folder: where they are; it may not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: list[str] = []
        """The names of the calls that were not made again."""

    def take(self, key: str) -> tuple[Any, Report, dict[str, str]] | None:
        """What a call gave, and tags of its run; None where it has not finished or its files are gone or damaged."""
        place = self._place(key)
        if not place.is_dir():
            return None
        try:
            told = json.loads((place / "call.json").read_text(encoding="utf-8"))
            report = Report.from_json(json.dumps(told["report"]))
            if not all(path.exists() for path in report.files.values()):
                return None
            models = tuple(load_model(place / f"{number}.keras") for number in range(told["models"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"What was kept of a finished step is damaged, so that it is made again: {error}", stacklevel=2)
            return None
        self.taken.append(report.name or report.technique)
        return (models if told["several"] else models[0]), report, told["tags"]

    def put(self, key: str, model: Any, report: Report, tags: dict[str, str]) -> None:
        """Keep what a call gave, whole or not at all. What cannot be kept (a class that Keras cannot write, a full disk) warns."""
        models = model if isinstance(model, tuple) else (model,)
        place = self._place(key)
        scratch = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix="unfinished-", dir=self.folder))
            for number, one in enumerate(models):
                save_model(one, scratch / f"{number}.keras")
            told = {"models": len(models), "several": isinstance(model, tuple), "tags": tags, "report": json.loads(report.to_json())}
            write_atomic(scratch / "call.json", json.dumps(told).encode())
            shutil.rmtree(place, ignore_errors=True)
            os.replace(scratch, place)
        except Exception as error:
            warnings.warn(f"{report.name or report.technique} could not be kept; after a kill it is made again. {error}", stacklevel=2)
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)

    def _place(self, key: str) -> Path:
        return self.folder / key[:40]


@contextlib.contextmanager
def keeping(kept: Finished | None) -> Iterator[None]:
    """Inside the block the calls of techniques are kept there, those inside them are not; None: none are."""
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)


def kept() -> Finished | None:
    """Where calls are kept at present."""
    return _kept.get()
