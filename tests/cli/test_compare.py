"""`kdfuse compare`."""

from pathlib import Path

import pytest

from kdfuse import recording
from kdfuse.cli import compare
from kdfuse.cli.app import main
from kdfuse.report import Report
from kdfuse.tracking.mlflow_recorder import MlflowRecorder
from kdfuse.tracking.sender import sender


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> str:
    """Two rows, one of them of two seeds."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KDFUSE_EXPERIMENT"):
        monkeypatch.delenv(name, raising=False)
    with recording.use(MlflowRecorder("two sizes")):
        for name, seed, accuracy, parameters in (("large", 0, 0.9, 100), ("small", 0, 0.7, 10), ("small", 1, 0.8, 10)):
            with recording.run(name, "Train", {"seed": seed}, f"{name} {seed}") as run:
                metrics = {
                    "validation/accuracy": accuracy,
                    "test/accuracy": accuracy,
                    "size/parameters": parameters,
                    "cost/macs": parameters,
                }
                run.report = Report("Train", metrics=metrics, name=name)
    sender().wait()
    return "two sizes"


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as raised:
        main(["compare", *arguments])
    return int(raised.value.code or 0)


def test_the_table_and_its_files(experiment: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"a.{kind}" for kind in ("csv", "markdown", "html")}
    assert call(experiment, *(part for kind, path in paths.items() for part in (f"--{kind}", str(path)))) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["model", "front", "runs", "validation", "accuracy", "test", "accuracy", "parameters", "MACs"]
    assert told[2].split()[:3] == ["large", "*", "1"] and told[3].split()[:6] == ["small", "*", "2", "75.0", "±", "7.1"]
    assert [line for line in told if line.startswith("Written")] == [f"Written: {path}" for path in paths.values()]
    assert all(path.stat().st_size for path in paths.values())


def test_options(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        "--seeds",
        "--sort",
        "test/accuracy",
        "--where",
        "parameters < 50",
        "--where",
        "accuracy > 0",
        "--columns",
        "test/accuracy,seed",
    ]
    assert call(experiment, *given, "--front", "accuracy,macs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:4]] == [["small", "·", "seed", "1", "0.8000", "1"], ["small", "·", "seed", "0", "0.7000", "0"]]


def test_wrong_calls(experiment: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for given, message in ((["two size"], "Did you mean 'two sizes'?"), ([experiment, "--sort", "acuracy"], "`sort`: expected a figure"),
                           ([experiment, "--where", "accuracy"], "`where`: expected a name")):  # fmt: skip
        assert call(*given) == 2
        told = capsys.readouterr()
        assert message in told.err and told.err.count("\n") == 1 and not told.out
    (tmp_path / "file").touch()
    assert call(experiment, "--csv", str(tmp_path / "file" / "a.csv")) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_narrow_terminal_keeps_what_matters(experiment: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "50"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert call(experiment) == 0
    told = capsys.readouterr().out
    assert "large" in told and "\x1b[1m" in told and "No room for" in told and "MACs" in told


def test_columns_by_importance() -> None:
    columns = ["model", "front", "size/nonzero", "test/macro_f1", "test/accuracy", "kd/agreement"]
    assert compare._fitting(columns, [5] * 6, 4 * 8 + 1) == [0, 1, 2, 4]
    assert compare._fitting(columns, [50] * 6, 10) == [0, 1]
