import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.data import Data
from kdfuse.export import export as export_file
from kdfuse.export.export import export_model, exported, load

layers = keras.layers


@pytest.fixture(scope="module")
def data():
    x, y = load_digits(return_X_y=True)
    return Data(((x[:400] / 16).astype("float32"), y[:400]), validation=0.2)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((64,)), layers.Dense(16, activation="relu"), layers.Dense(10, activation="softmax")], name="digits"
    )


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx", "m.keras", "m"])
def test_each_format_comes_back_as_a_callable(model, data, tmp_path, name):
    if name.endswith("onnx"):
        pytest.importorskip("tf2onnx")
    path, difference = exported(model, tmp_path / "new" / name, data=data)
    assert path == tmp_path / "new" / name and difference.largest < 1e-6 and difference.agreement == 1.0
    assert [file.name for file in path.parent.iterdir()] == [name]
    x = data.test.head(7)[0] if data.test else data.example(7)
    np.testing.assert_allclose(load(path)(x), model(x), atol=1e-6)


@pytest.mark.parametrize("quantize", ["int8", "dynamic", "float16"])
def test_quantized(model, data, tmp_path, quantize):
    path, difference = exported(model, tmp_path / "m.tflite", quantize=quantize, data=data)
    assert 0 < difference.largest < 0.05 and difference.agreement > 0.8
    small = path.stat().st_size
    assert small < export_model(model, path).stat().st_size


def test_zeros_are_left_out_of_a_sparse_file(data, tmp_path):
    keras.utils.set_random_seed(0)
    sparse = keras.Sequential([keras.Input((64,)), layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")])
    kernel = sparse.layers[0].kernel
    kernel.assign(kernel.numpy() * (np.random.default_rng(0).random(kernel.shape) < 0.05))
    stored, difference = exported(sparse, tmp_path / "sparse.tflite", sparse=True, data=data)
    assert difference.largest < 1e-6
    assert stored.stat().st_size < 0.7 * export_model(sparse, tmp_path / "dense.tflite", data=data).stat().st_size


def test_ranges_come_from_the_training_rows(model, data, tmp_path, monkeypatch):
    seen = {}
    real = export_file.to_litert

    def spy(*arguments, **options):
        seen.update(options)
        return real(*arguments, **options)

    monkeypatch.setattr(export_file, "to_litert", spy)
    export_model(model, tmp_path / "m.tflite", quantize="int8", data=data)
    np.testing.assert_array_equal(seen["representative"], data.sample(256))
    export_model(model, tmp_path / "m.tflite", quantize="int8", data=data.example(9))
    np.testing.assert_array_equal(seen["representative"], data.example(9))


class Own(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def test_a_subclassed_model_needs_data(data, tmp_path):
    model = Own()
    with pytest.raises(ValueError, match="`data`: expected a Data or a batch of inputs, as 'own' does not say what it takes"):
        export_model(model, tmp_path / "m.tflite")
    path = export_model(model, tmp_path / "m.tflite", data=data)
    np.testing.assert_allclose(load(path)(data.example(5)), model(data.example(5)), atol=1e-6)


def test_a_file_that_gives_something_else_is_not_left(model, data, tmp_path, monkeypatch):
    path = export_model(model, tmp_path / "m.tflite", data=data)
    before = path.read_bytes()
    other = keras.Sequential([keras.Input((64,)), layers.Dense(10, activation="softmax")])
    real = export_file.to_litert
    monkeypatch.setattr(export_file, "to_litert", lambda model, **options: real(other, **options))
    with pytest.raises(ValueError, match="The file differs from the model by .*expected at most 0.0001"):
        export_model(model, path, data=data)
    with pytest.warns(UserWarning, match="of 64 rows only"):
        export_model(model, path, data=data, tolerance=1.0)
    assert path.read_bytes() != before
    with pytest.raises(ValueError, match="differs"):
        export_model(model, tmp_path / "other.tflite", data=data)
    assert [file.name for file in tmp_path.iterdir()] == ["m.tflite"]


def test_a_low_agreement_is_told(model, data, tmp_path, monkeypatch):
    twin = keras.models.clone_model(model)
    twin.set_weights([weight + 0.2 * np.random.default_rng(0).normal(size=weight.shape) for weight in model.get_weights()])
    real = export_file.to_litert
    monkeypatch.setattr(export_file, "to_litert", lambda model, **options: real(twin, **options))
    with pytest.warns(UserWarning, match="m.tflite decides as the model does on .* of 64 rows only"):
        export_model(model, tmp_path / "m.tflite", data=data, tolerance=1.0)


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("m.lite", {}, "expected a name that ends in .tflite, .onnx or .keras, or a folder.*Received: 'm.lite'"),
        ("m.h5", {}, "expected a name that ends in"),
        ("m.onnx", {"format": "litert"}, "expected a name that ends in .tflite for the format 'litert'"),
        ("m", {"format": "lite"}, "`format`: expected one of"),
        ("m.keras", {"quantize": "int8"}, "`quantize`: expected None for the format 'keras'"),
        ("m.onnx", {"sparse": True}, "`sparse`: expected False for the format 'onnx'"),
        ("m.tflite", {"quantize": "int8"}, "`data`: expected a Data or a batch of inputs for quantize='int8'"),
        ("m.tflite", {"quantize": "int7"}, "`quantize`: expected one of"),
    ],
)
def test_wrong_calls_leave_nothing(model, tmp_path, name, options, problem):
    with pytest.raises(ValueError, match=problem):
        export_model(model, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model(tmp_path):
    with pytest.raises(TypeError, match="`model`: expected a keras.Model"):
        export_model("model", tmp_path / "m.tflite")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", ["m.tflite", "m.keras", "m"])
def test_other_precisions(policy, name, tmp_path):
    keras.utils.set_random_seed(0)
    given = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D(dtype=policy)(layers.Conv2D(8, 3, activation="relu", dtype=policy)(given))
    model = keras.Model(given, layers.Dense(3, dtype="float32")(layers.Dense(5, dtype=policy)(x)))
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
    path = export_model(model, tmp_path / name, data=x)
    np.testing.assert_allclose(load(path)(x), model(x), atol=0 if name == "m.keras" else 2e-2)
    assert {weight.dtype for weight in model.layers[1].weights} == {"float32" if "mixed" in policy else policy}


@pytest.mark.parametrize("name", ["folder", "m.onnx", "m.tflite"])
def test_a_model_that_cannot_be_traced_is_told_so_in_every_format(name, tmp_path):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.UpSampling2D(2, interpolation="bilinear")(inputs), name="open")  # Keras asks for its size
    with pytest.raises(
        ValueError, match=r"`model`: 'open' cannot be traced: \w+: Exception encountered .*sizes that are known.*\.keras file"
    ):
        export_model(model, tmp_path / name, data=np.zeros((2, 6, 6, 3), "float32"))
    assert not list(tmp_path.iterdir())
