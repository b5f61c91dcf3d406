"""`kdfuse measure`."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from kdfuse import datasets
from kdfuse.cli.app import main
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import save_litert, to_litert


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "200")
    data = datasets.load("digits")
    made = keras.Sequential(
        [keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax", name="out")]
    )
    path = tmp_path / "small.keras"
    made.save(path)
    return path


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, float]:
    with pytest.raises(SystemExit) as raised:
        main(["measure", *arguments])
    assert not raised.value.code
    found = re.findall(r"^\s*(\w+/\w+)\s+([\d.,e+-]+)\s*$", capsys.readouterr().out, re.MULTILINE)
    return {name: float(value.replace(",", "")) for name, value in found}


def test_size_cost_and_latency(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, str(model))
    assert found["size/parameters"] == 650 and found["cost/macs"] == 640 and found["latency/p50_ms"] > 0
    assert not any(name.startswith("test/") for name in found)
    assert "latency/p50_ms" not in figures(capsys, str(model), "--no-latency")


def test_texts_and_inputs_by_name_need_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, more = keras.Input((1,), dtype="string", name="words"), keras.Input((3,), name="more")
    known = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(words)
    made = keras.Model({"words": words, "more": more}, keras.layers.Dense(2)(keras.layers.Concatenate()([known, more])))
    made.save(tmp_path / "texts.keras")
    found = figures(capsys, str(tmp_path / "texts.keras"))
    assert found["size/parameters"] == made.count_params() and found["latency/p50_ms"] > 0


def test_quality_on_a_data_set_and_on_a_file(model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = datasets.load("digits")
    assert data.test is not None
    x, y, _ = data.test.head(10**6)
    outputs = keras.saving.load_model(model).predict(x, verbose=0)
    expected = float(np.mean(outputs.argmax(-1) == y))
    assert figures(capsys, str(model), "--data", "digits", "--no-latency")["test/accuracy"] == pytest.approx(expected, abs=1e-4)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    assert figures(capsys, str(model), "--data", str(tmp_path / "rows.npz"), "--no-latency")["test/accuracy"] == pytest.approx(
        expected, abs=1e-4
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("cut.keras", b"PK\x03\x04rest", "cut.keras"), ("text.keras", b"hello", "not a .keras file"), ("empty.keras", b"", "is empty")],
)
def test_a_file_that_is_no_model(name: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit) as raised:
        main(["measure", str(tmp_path / name)])
    errors = capsys.readouterr().err
    assert raised.value.code == 2 and message in errors and len(errors.splitlines()) == 1


def test_data_that_does_not_fit(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "odd.npz", a=np.zeros(3))
    (tmp_path / "bad.npz").write_text("no archive")
    for data, message in ((tmp_path / "odd.npz", "x_test and y_test"), (tmp_path / "bad.npz", "not a readable"), ("digitz", "digits")):
        with pytest.raises(SystemExit) as raised:
            main(["measure", str(model), "--data", str(data)])
        assert raised.value.code in (1, 2) and message in capsys.readouterr().err


def test_a_lite_file(model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = datasets.load("digits")
    assert data.test is not None
    loaded = keras.saving.load_model(model)
    path = save_litert(to_litert(loaded, quantize="int8", representative=data.example(64)), tmp_path / "small.tflite")
    found = figures(capsys, str(path))
    assert found["size/tflite_bytes"] == path.stat().st_size > found["size/tflite_gzip_bytes"] and found["size/integer_share"] == 1.0
    assert 0 < found["latency/tflite_p50_ms"] <= found["latency/tflite_p95_ms"] and "tflite/accuracy" not in found
    with_data = figures(capsys, str(path), "--data", "digits", "--no-latency")
    x, y, _ = data.test.head(10**6)
    assert with_data["tflite/accuracy"] == pytest.approx(float(np.mean(LiteModel(path)(x).argmax(-1) == y)), abs=1e-4)
    assert "latency/tflite_p50_ms" not in with_data
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(SystemExit) as raised:
        main(["measure", str(path)])
    errors = capsys.readouterr().err
    assert raised.value.code == 2 and "damaged" in errors and len(errors.splitlines()) == 1
