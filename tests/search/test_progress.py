import os
import pty
import sys

import pytest

from kdfuse.search.progress import Progress


def test_nothing_is_drawn_where_there_is_no_terminal(capfd):
    with Progress(3, "validation/accuracy") as progress:
        progress.step(0.5)
    assert capfd.readouterr().err == ""


def test_a_terminal_sees_the_best_so_far(monkeypatch):
    main, side = pty.openpty()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("KDFUSE_PROGRESS", raising=False)
    with open(side, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(3, "validation/accuracy") as progress:
            progress.step(None)
            progress.step(0.875)
            progress._bar.refresh()
            drawn = os.read(main, 100_000).decode()
            while "0.8750" not in drawn:  # a terminal gives what it has so far
                drawn += os.read(main, 100_000).decode()
    os.close(main)
    assert "best validation/accuracy 0.8750" in drawn and "2/3" in drawn


def test_it_can_be_switched_off(monkeypatch):
    main, side = pty.openpty()
    monkeypatch.setenv("KDFUSE_PROGRESS", "off")
    with open(side, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(3, "validation/accuracy") as progress:
            progress.step(0.5)
    os.set_blocking(main, False)
    with pytest.raises(OSError):  # nothing to read
        os.read(main, 10)
    os.close(main)
