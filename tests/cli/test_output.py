"""What the subcommands print with."""

import pytest

from kdfuse.cli.output import Failure, complain, show


def test_a_complaint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a\n  b")
    assert capsys.readouterr() == ("", "kdfuse: a b\n")


def test_a_table_shows_text_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show(["figure", "value"], [["[bold]x[/bold]", 1.5]], title="t")
    text = capsys.readouterr().out
    assert "[bold]x[/bold]" in text and "1.5" in text and "figure" in text


def test_failure_has_a_code() -> None:
    assert Failure("x").code == 1 and Failure("x", 2).code == 2
