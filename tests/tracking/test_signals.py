"""SIGTERM while a run is open."""

import signal
import threading

import pytest

from kdfuse.tracking import signals


def test_our_handler_is_there_only_while_a_run_is_open() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signals.watch("a")
        signals.watch("b")
        with pytest.raises(SystemExit) as raised:
            signal.raise_signal(signal.SIGTERM)
        assert raised.value.code == 143
        signals.unwatch("b")
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signals.unwatch("a")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_of_the_program_stays() -> None:
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        signals.watch("a")
        signal.raise_signal(signal.SIGTERM)
        signals.unwatch("a")
        assert got == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            signals.watch("a")
            signals.unwatch("a")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors and signal.getsignal(signal.SIGTERM) is before
