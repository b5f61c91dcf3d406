import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.compress.quantize import Quantize
from kdfuse.data import Data
from kdfuse.export.lite_model import LiteModel
from kdfuse.technique import Chain

layers = keras.layers


@pytest.fixture(scope="module")
def data():
    x, y = load_digits(return_X_y=True)
    x = (x[:900, :] / 16).astype("float32").reshape(-1, 8, 8, 1)
    return Data((x[:500], y[:500]), validation=(x[500:700], y[500:700]), test=(x[700:], y[700:900]))


@pytest.fixture(scope="module")
def model(data):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, name="first")(inputs)))
    x = layers.Conv2D(16, 3, activation="relu", name="second")(x)
    x = layers.Dense(64, activation="relu", name="wide")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="out")(x), name="digits")
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y, _ = data.train.head(500)
    model.fit(x, y, epochs=10, verbose=0)
    return model


def bits_of(kernel):
    """The fewest bits that hold each channel's values as symmetric integers; 32 for none."""
    rows = np.moveaxis(np.asarray(kernel), -1, 0).reshape(kernel.shape[-1], -1)
    for bits in (4, 8):
        scale = np.abs(rows).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
        if np.allclose(rows / scale, np.round(rows / scale), atol=1e-3):
            return bits
    return 32


@pytest.mark.parametrize(("kind", "bits", "size"), [("int8", 8, 0.35), ("int4", 4, 0.25), ("dynamic", 8, 0.4), ("float16", 32, 0.6)])
def test_each_kind_gives_a_file_and_a_model_of_its_weights(model, data, kind, bits, size):
    before = [variable.numpy().copy() for variable in model.variables]
    small, report = Quantize(kind)(model, data)
    path = report.files["tflite"]
    x, y, _ = data.test.head(200)
    lite = LiteModel(path)
    assert report.metrics["tflite/accuracy"] == pytest.approx((lite(x).argmax(1) == y).mean())
    assert report.metrics["tflite/accuracy"] > report.tables["models"][1]["test/accuracy"] - 0.05
    assert report.metrics["size/tflite_bytes"] == path.stat().st_size < size * report.tables["models"][1]["size/keras_bytes"]
    assert report.metrics["size/integer_share"] == (1.0 if kind in ("int8", "int4") else 0.0)
    assert bits_of(small.get_layer("wide").kernel) == bits == bits_of(small.get_layer("second").kernel)
    assert np.abs(small(x).numpy() - lite(x)).max() < (1e-3 if kind == "float16" else 0.1)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    if kind == "float16":
        wide = small.get_layer("wide").kernel.numpy()
        assert np.array_equal(wide, wide.astype("float16").astype("float32")) and not np.array_equal(wide, model.get_layer("wide").kernel)


def test_mixed_keeps_the_accuracy_on_validation(model, data):
    x, y, _ = data.validation.head(200)
    best = (model(x).numpy().argmax(1) == y).mean()
    _, report = Quantize("mixed", samples=64, max_drop=0.01)(model, data)
    lite = LiteModel(report.files["tflite"])
    assert (lite(x).argmax(1) == y).mean() >= best - 0.01
    table = report.tables["sensitivity"]
    assert {(row["operation"] != "", row["bits"]) for row in table} == {(True, 8), (True, 4)} and len(table) == 8
    assert all(row["error"] >= 0 and row["bytes_saved"] > 0 for row in table)
    assert any("operations with weights" in note for note in report.notes)
    _, other = Quantize("mixed", samples=64, max_drop=0.5)(model, data)
    assert other.metrics["size/tflite_bytes"] <= report.metrics["size/tflite_bytes"]


def test_mixed_reaches_a_size(model, data):
    sizes = {kind: Quantize(kind, samples=32)(model, data)[1].metrics["size/tflite_bytes"] for kind in ("int8", "int4")}
    target = int(sum(sizes.values()) / 2)
    _, report = Quantize("mixed", samples=32, target_bytes=target)(model, data)
    assert sizes["int4"] * 0.9 < report.metrics["size/tflite_bytes"] <= target
    with pytest.raises(ValueError, match="`target_bytes`: expected at least .* Received: 100. Shrink or prune"):
        Quantize("mixed", samples=32, target_bytes=100)(model, data)


def test_samples_change_the_ranges(model, data):
    few, many = (Quantize(samples=samples)(model, data)[1].files["tflite"].read_bytes() for samples in (1, 200))
    assert few != many


def test_in_a_chain_the_last_file_is_told_and_measured_once(model, data, monkeypatch):
    from kdfuse import technique

    calls = []
    real = technique.measure_lite
    monkeypatch.setattr(technique, "measure_lite", lambda *arguments, **options: calls.append(1) or real(*arguments, **options))
    _, report = Chain([Quantize("float16"), Quantize("dynamic")])(model, data)
    last = report.children[-1]
    assert len(calls) == 2 and report.files == last.files
    for name in ("tflite/accuracy", "tflite/agreement", "size/tflite_bytes", "latency/tflite_p50_ms"):
        assert report.metrics[name] == last.metrics[name]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"kind": "int7"}, "`kind`: expected one of .*Received: kind='int7'"),
        ({"samples": 0}, "`samples`: expected an integer of at least 1"),
        ({"max_drop": 1.5}, "`max_drop`: expected a number in .0, 1."),
        ({"target_bytes": 1000}, "`target_bytes`: expected None, or a positive integer with kind='mixed'"),
        ({"kind": "mixed", "target_bytes": 0}, "`target_bytes`: expected None, or a positive integer"),
    ],
)
def test_wrong_settings(settings, problem):
    with pytest.raises(ValueError, match=problem):
        Quantize(**settings)


def test_what_does_not_fit_is_refused(model, data):
    x, y, _ = data.train.head(50)
    with pytest.raises(ValueError, match="expected a validation split for kind='mixed'"):
        Quantize("mixed")(model, Data((x, y)))
    with pytest.raises(ValueError, match="`model`: expected a built model"):
        Quantize()(keras.Sequential([layers.Flatten(), layers.Dense(10)]), data)
    bare = keras.Sequential([keras.Input((8, 8, 1)), layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match="expected Dense layers or convolutions for kind='int4'"):
        Quantize("int4")(bare, data)


def test_layers_that_the_file_has_in_another_form_are_named(data):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = layers.LSTM(8, unroll=True, name="memory")(layers.Reshape((8, 8))(inputs))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    small, report = Quantize(samples=16)(model, data)
    assert any(note.startswith("The Keras model keeps the float weights of") for note in report.notes)
    np.testing.assert_array_equal(small.get_layer("memory").weights[0], model.get_layer("memory").weights[0])


def test_rows_in_the_order_of_their_classes_are_calibrated_on_as_shuffled_ones():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 200)
    x = (rng.normal(size=(800, 4)) * 0.1 + 20.0 ** y[:, None] / 100 * np.eye(4)[y]).astype("float32")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(4)])
    order = rng.permutation(800)
    made = [Quantize("int8")(model, Data((x[rows], y[rows]), test=(x, y)))[1] for rows in (np.arange(800), order)]
    assert made[0].tables.keys() == made[1].tables.keys()
    assert abs(made[0]["tflite/agreement"] - made[1]["tflite/agreement"]) < 0.02


def test_numbers_beyond_float16_stay():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="norm"), layers.Dense(3)])
    model.layers[0].moving_variance.assign([1e6, 1.0, 2e5, 3.0])
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32") * 1000
    made, report = Quantize("float16")(model, Data((x, np.arange(40) % 3), validation=0.2))
    assert np.isfinite(made.layers[0].moving_variance.numpy()).all()
    assert any("beyond the numbers of float16" in note and "moving_variance" in note for note in report.notes)
