"""Silence around converters, whose C++ parts write to the process's own output where no log level reaches."""

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, nothing reaches standard output and standard error, no warning is shown and no library logs.

    What was written is dropped; errors are raised as ever. Output of other threads is dropped too while it lasts.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            _descriptors(1, 2),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _descriptors(*numbers: int) -> Iterator[None]:
    kept: dict[int, int] = {}
    _flush()
    with tempfile.TemporaryFile() as caught:
        try:
            for number in numbers:
                with contextlib.suppress(OSError):  # a service may run without one
                    kept[number] = os.dup(number)
                    os.dup2(caught.fileno(), number)
            yield
        finally:
            _flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
