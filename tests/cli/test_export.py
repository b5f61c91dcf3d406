"""`kdfuse export`."""

from pathlib import Path

import keras
import numpy as np
import pytest

from kdfuse import datasets
from kdfuse.cli.app import main
from kdfuse.export.export import load


@pytest.fixture
def model(tmp_path: Path) -> Path:
    data = datasets.load("digits")
    made = keras.Sequential([keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
    made.save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as raised:
        main(["export", *arguments])
    return int(raised.value.code or 0)


@pytest.mark.parametrize("options", [["m.tflite", "--sparse"], ["m.tflite", "--quantize", "int8", "--data", "digits"], ["m"]])
def test_a_file_is_written_and_told(model: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / options[0]
    assert run(str(model), str(out), *options[1:]) == 0
    told = capsys.readouterr().out
    assert str(out) in told and "largest difference" in told and ("rows of digits" in told) == ("--data" in options)
    x = datasets.load("digits").example(5)
    np.testing.assert_allclose(load(out)(x), keras.saving.load_model(model)(x), atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["m.lite"], "`path`: expected a name that ends in .tflite"),
        (["m.tflite", "--quantize", "int7"], "`quantize`: expected one of"),
        (["m.tflite", "--quantize", "int8"], "`data`: expected a Data or a batch of inputs"),
    ],
)
def test_wrong_calls(model: Path, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(model), str(tmp_path / "out" / options[0]), *options[1:]) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1
    assert run(str(tmp_path / "none.keras"), str(tmp_path / "m.tflite")) == 2
    assert "there is no file" in capsys.readouterr().err
