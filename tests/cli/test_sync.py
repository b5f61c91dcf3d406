"""`kdfuse sync`."""

import pytest

from kdfuse.cli.app import main
from kdfuse.tracking.offline import Outcome


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as raised:
        main(["sync", *arguments])
    printed = capsys.readouterr()
    return int(raised.value.code or 0), printed.out, printed.err


def test_nothing_to_send(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys) == (0, "Nothing waits to be sent.\n", "")


def test_what_was_sent_and_what_was_not(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [Outcome("1", "a", "sent"), Outcome("2", "b", "open"), Outcome("3", "c", "failed", "no answer")]
    asked: list[str | None] = []

    def sync(uri: str | None, tell: object) -> list[Outcome]:
        asked.append(uri)
        for outcome in outcomes:
            tell(outcome)  # type: ignore[operator]
        return outcomes

    monkeypatch.setattr("kdfuse.tracking.offline.sync", sync)
    code, out, err = call(capsys, "--uri", "http://there")
    assert code == 1 and asked == ["http://there"]
    assert out.splitlines() == ["a: sent", "b: going on, left alone", "1 of 3 runs sent."] and err == "c: not sent: no answer\n"
