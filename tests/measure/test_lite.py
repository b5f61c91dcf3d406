import gzip

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.data import Data
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import save_litert, to_litert
from kdfuse.measure.lite import file_figures, file_quality, is_lite, lite_latency, measure_lite
from kdfuse.measure.measure import measure
from kdfuse.report import figure

layers = keras.layers


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return (x[:400] / 16).astype("float32"), y[:400]


@pytest.fixture(scope="module")
def data(digits):
    x, y = digits
    return Data((x[:240], y[:240]), validation=(x[240:320], y[240:320]), test=(x[320:], y[320:]))


@pytest.fixture(scope="module")
def model(digits):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(16, activation="relu"), layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*digits, epochs=3, verbose=0)
    return model


@pytest.fixture
def path(model, data, tmp_path):
    return save_litert(to_litert(model, quantize="int8", representative=data.example(50)), tmp_path / "m.tflite")


def test_the_file_itself_is_measured_on_the_test_split(model, data, digits, path):
    metrics, notes = measure_lite(path, model, data)
    x, y = digits[0][320:], digits[1][320:]
    lite = LiteModel(path)
    guesses = lite(x).argmax(1)
    assert metrics["tflite/accuracy"] == pytest.approx((guesses == y).mean())
    assert metrics["tflite/agreement"] == pytest.approx((guesses == model(x).numpy().argmax(1)).mean())
    chances = lite(x)[np.arange(len(y)), y] / lite(x).sum(1)
    assert metrics["tflite/log_loss"] == pytest.approx(-np.log(np.maximum(chances, 1e-15)).mean(), rel=0.05)
    assert metrics["size/tflite_bytes"] == path.stat().st_size and metrics["size/integer_share"] == 1.0
    assert metrics["size/tflite_gzip_bytes"] == len(gzip.compress(path.read_bytes(), 6, mtime=0))
    assert 0 < metrics["latency/tflite_p50_ms"] <= metrics["latency/tflite_p95_ms"] and not notes
    assert all(figure(name) is not None and is_lite(name) and type(value) is float for name, value in metrics.items())


def test_what_was_measured_is_not_run_again(model, data, path, monkeypatch):
    measured = measure(model, data, latency=False)
    expected, _ = measure_lite(path, model, data, latency=False)
    from kdfuse.measure import lite

    passes = []
    real = lite.one_pass
    monkeypatch.setattr(lite, "one_pass", lambda *arguments, **options: passes.append(1) or real(*arguments, **options))
    found, _ = measure_lite(path, model, data, measured=measured, latency=False)
    assert found == expected and len(passes) == 1
    assert not any(name.startswith("latency/") for name in found)


def test_without_a_test_split_a_note_says_which(model, digits, path):
    x, y = digits
    metrics, notes = measure_lite(path, model, Data((x[:240], y[:240]), validation=(x[240:], y[240:])), latency=False)
    assert metrics["tflite/accuracy"] == pytest.approx((LiteModel(path)(x[240:]).argmax(1) == y[240:]).mean())
    assert notes == ["The figures under tflite/ are of the validation split: there is no test split."]
    metrics, notes = measure_lite(path, model, Data((x, y)), latency=False)
    assert "tflite/accuracy" not in metrics and "was not measured" in notes[0]


def test_several_outputs_heads_and_weights(tmp_path):
    rng = np.random.default_rng(0)
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((3,), name="b")}
    joined = layers.Concatenate()([inputs["a"], inputs["b"]])
    model = keras.Model(inputs, {"kind": layers.Dense(3)(joined), "size": layers.Dense(1)(joined)})
    x = {"a": rng.random((60, 4), "float32"), "b": rng.random((60, 3), "float32")}
    y = {"kind": rng.integers(0, 3, 60), "size": rng.random((60, 1), "float32")}
    weights = rng.integers(0, 2, 60).astype("float32")
    data = Data((x, y), test=(x, y, weights))
    path = save_litert(to_litert(model), tmp_path / "m.tflite")
    measured = measure(model, data, latency=False)
    metrics, _ = measure_lite(path, model, data, measured=measured, latency=False)
    quality = {name.removeprefix("test/"): value for name, value in measured.metrics.items() if name.startswith("test/")}
    assert set(quality) >= {"kind/accuracy", "size/rmse", "accuracy"}
    for name, value in quality.items():
        assert metrics[f"tflite/{name}"] == pytest.approx(value, abs=1e-5)
    assert metrics["tflite/agreement"] == 1.0


def test_steps_that_the_model_masks_do_not_count(tmp_path):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    inputs = keras.Input((6,), dtype="int32")
    model = keras.Model(inputs, layers.Dense(3)(layers.Embedding(10, 4, mask_zero=True)(inputs)))
    x = rng.integers(0, 10, (40, 6)).astype("int32")
    x[:, 3:] = 0
    data = Data((x, rng.integers(0, 3, (40, 6))), test=(x, rng.integers(0, 3, (40, 6))))
    measured = measure(model, data, latency=False)
    path = save_litert(to_litert(model), tmp_path / "m.tflite")
    metrics, _ = measure_lite(path, model, data, measured=measured, latency=False)
    assert metrics["tflite/accuracy"] == pytest.approx(measured.metrics["test/accuracy"])
    unmasked = (LiteModel(path)(x).argmax(-1) == data.test.head(40)[1]).mean()
    assert metrics["tflite/accuracy"] != pytest.approx(unmasked)


def test_a_damaged_file_raises(model, data, path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated or damaged|damaged"):
        measure_lite(path, model, data)


def test_figures_of_a_file_alone(path, data):
    lite = LiteModel(path)
    assert set(file_figures(lite)) == {"size/tflite_bytes", "size/tflite_gzip_bytes", "size/integer_share"}
    assert set(lite_latency(lite, data.example(3))) == {"latency/tflite_p50_ms", "latency/tflite_p95_ms"}
    assert not is_lite("test/accuracy") and not is_lite("size/parameters") and not is_lite("latency/p50_ms")


def test_quality_of_a_file_without_its_model(model, data, path, digits):
    found, (x, y) = file_quality(LiteModel(path), data), (digits[0][320:], digits[1][320:])
    assert found["tflite/accuracy"] == pytest.approx((LiteModel(path)(x).argmax(1) == y).mean())
    measured, _ = measure_lite(path, model, data, latency=False)
    assert found == {name: pytest.approx(value) for name, value in measured.items() if name in found} and len(found) == 4
    two = Data((x, {"a": y, "b": y}))
    with pytest.raises(ValueError, match="expected labels for the file's 1 outputs. Received: labels for 2"):
        file_quality(LiteModel(path), two)
