"""The command line as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from kdfuse import __version__
from kdfuse.cli import app

ROOT = Path(__file__).parents[2]


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from kdfuse.cli.app import main
helps = [[name, "--help"] for name in ("compare", "doctor", "measure", "export", "sync", "ui")]
for arguments in (["--help"], *helps, ["--version"]):
    try:
        main(arguments)
    except SystemExit as leaving:
        assert leaving.code in (0, None), leaving.code
print(sorted({"tensorflow", "keras", "mlflow", "numpy", "matplotlib", "sklearn"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(word in done.stdout for word in ("compare", "doctor", "export", "measure", "sync", "ui"))


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "kdfuse.cli.app", "--version"], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == f"kdfuse {__version__}"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["frobnicate"], 2, "No such command"),
        (["measure", "nothing.keras"], 2, "there is no file nothing.keras"),
        (["ui", "--port", "0"], 2, "--port"),
        ([], 2, ""),
    ],
)
def test_a_wrong_call_is_told_without_a_traceback(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        app.main(arguments)
    assert raised.value.code == code
    errors = capsys.readouterr().err
    assert message in errors and "Traceback" not in errors


def test_what_goes_wrong_inside_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*arguments: object, **keywords: object) -> None:
        raise OSError("the disk\nis full")

    monkeypatch.setattr("kdfuse.tracking.offline.sync", broken)
    with pytest.raises(SystemExit) as raised:
        app.main(["sync"])
    assert raised.value.code == 1
    assert capsys.readouterr().err == "kdfuse: OSError: the disk is full\n"
