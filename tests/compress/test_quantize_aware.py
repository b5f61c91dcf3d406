"""QuantizeAware on real digits: the int8 file, what is kept, the settings, what is refused."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from kdfuse.compress.cluster import Cluster
from kdfuse.compress.quantize_aware import QuantizeAware
from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.export.lite_file import read_file
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import to_litert
from kdfuse.graph.fingerprint import fingerprint
from kdfuse.models.mlp import mlp as mlp_model
from kdfuse.settings import flatten, replace
from kdfuse.technique import Chain
from kdfuse.train import Train

L = keras.layers
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 8, 8, 1)
FAST = Train(epochs=1, learning_rate=1e-4, batch_size=64, checkpoint=0)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(train=(X[:1000], Y[:1000]), validation=(X[1000:1300], Y[1000:1300]), test=(X[1300:], Y[1300:]))


@pytest.fixture(scope="module")
def convnet(data: Data) -> keras.Model:
    keras.utils.set_random_seed(0)
    given = keras.Input((8, 8, 1))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(given)))
    x = L.ReLU()(L.Add()([x, L.BatchNormalization()(L.Conv2D(8, 3, padding="same", name="inner")(x))]))
    x = L.Flatten()(L.MaxPooling2D()(x))
    made = keras.Model(given, L.Dense(10, name="head")(L.Dropout(0.2)(x)))
    return Train(epochs=12, learning_rate=0.003, checkpoint=0).apply(made, data).model


@pytest.fixture(scope="module")
def mlp(data: Data) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [L.Flatten(), L.Dense(48, "relu", name="one"), L.Dense(10, "softmax", name="head")]
    made = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    return Train(epochs=10, learning_rate=0.005, checkpoint=0).apply(made, data).model


def copy(model: keras.Model) -> keras.Model:
    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    return made


def pruned(model: keras.Model, share: float = 0.6) -> keras.Model:
    made = copy(model)
    for weight in made.weights:
        if len(weight.shape) > 1:
            values = weight.numpy()
            weight.assign(np.where(np.abs(values) > np.quantile(np.abs(values), share), values, 0.0))
    return made


def shared(model: keras.Model, count: int = 8) -> keras.Model:
    made = copy(model)
    for weight in made.weights:
        if len(weight.shape) > 1:
            values = weight.numpy()
            centroids = np.quantile(values[values != 0], np.linspace(0.02, 0.98, count))
            nearest = centroids[np.abs(values[..., None] - centroids).argmin(-1)]
            weight.assign(np.where(values == 0, 0.0, nearest))
    return made


def lite_accuracy(report: Any, data: Data) -> float:
    x, y, _ = data.test.head(1000)
    return float(np.mean(LiteModel(report.files["tflite"])(x).argmax(-1) == y))


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: weight.numpy() for weight in model.weights if len(weight.shape) > 1}


def test_the_default_is_as_good_as_the_float_model_and_wholly_int8(convnet: keras.Model, data: Data) -> None:
    before, history = fingerprint(convnet), convnet.evaluate(X[1300:], Y[1300:], verbose=0)[1]
    made, report = QuantizeAware()(convnet, data)
    assert fingerprint(convnet) == before
    assert report["test/accuracy"] >= history - 0.01 and lite_accuracy(report, data) >= history - 0.01
    assert report["size/integer_share"] == 1.0 and report["quantization/difference"] < 0.05
    assert report.files["tflite"].stat().st_size < 20_000
    assert [layer.name for layer in made.layers] == [
        layer.name for layer in convnet.layers
    ] and made.count_params() == convnet.count_params()
    assert {row["type"] for row in report.tables["quantization"]} == {"int8"} and "Trained with QAT." in report.notes
    for path, values in kernels(made).items():
        columns = values.reshape(-1, values.shape[-1]) if values.ndim == 4 else values.reshape(-1, 1)
        assert all(len(np.unique(column)) <= 255 for column in columns.T), path


def test_zeros_stay(convnet: keras.Model, data: Data) -> None:
    given = pruned(convnet)
    made, report = QuantizeAware(FAST)(given, data)
    for path, values in kernels(given).items():
        assert np.all(kernels(made)[path][values == 0] == 0) and np.mean(values == 0) > 0.5
    assert "Trained with PQAT." in report.notes
    other = QuantizeAware(Train(epochs=1, learning_rate=0.01, checkpoint=0), keep_sparsity=False).apply(given, data).model
    assert np.mean(kernels(other)["head/kernel"] == 0) < 0.5


def test_clusters_stay(convnet: keras.Model, data: Data) -> None:
    made, report = QuantizeAware(FAST)(shared(convnet), data)
    assert "Trained with CQAT." in report.notes and len(np.unique(kernels(made)["head/kernel"])) <= 8
    inner = kernels(made)["inner/kernel"]
    assert all(len(np.unique(inner[..., channel])) <= 8 for channel in range(8))
    assert lite_accuracy(report, data) > 0.8
    other = QuantizeAware(FAST, keep_clusters=False).apply(shared(convnet), data).model
    assert len(np.unique(kernels(other)["head/kernel"])) > 8


@pytest.mark.slow
def test_zeros_and_clusters_stay_together(mlp: keras.Model, data: Data) -> None:
    given = shared(pruned(mlp))
    made, report = QuantizeAware(FAST)(given, data)
    assert "Trained with PCQAT." in report.notes
    for path, values in kernels(given).items():
        assert np.all(kernels(made)[path][values == 0] == 0) and len(np.unique(kernels(made)[path])) <= 9


def test_a_chain_keeps_what_came_before(mlp: keras.Model, data: Data) -> None:
    made, report = Chain((Cluster(16, training=None), QuantizeAware(FAST)))(pruned(mlp, 0.8), data)
    for values in kernels(made).values():
        assert np.mean(values == 0) >= 0.79 and len(np.unique(values)) <= 16
    assert report.files["tflite"].exists()


@pytest.mark.slow
def test_a_teacher_of_keras_3_can_train_it(mlp: keras.Model, convnet: keras.Model, data: Data) -> None:
    _, report = QuantizeAware(Distill(convnet, training=FAST))(mlp, data)
    assert any("teacher" in note for note in report.notes) and "train/soft_targets_loss" in report.history
    assert lite_accuracy(report, data) > 0.9


@pytest.mark.slow
def test_layers_can_stay_in_float(mlp: keras.Model, data: Data) -> None:
    _, report = QuantizeAware(FAST, skip=("head",))(mlp, data)
    types = {row["layer"]: row["type"] for row in report.tables["quantization"]}
    assert types == {"one": "int8", "head": "float"} and any("head (Dense)" in note for note in report.notes)
    assert report["size/integer_share"] < 1.0
    with pytest.raises(ValueError, match="`skip`.*'nobody'"):
        QuantizeAware(FAST, skip=("nobody",))(mlp, data)


@pytest.mark.slow
def test_calibration_and_training_change_the_result_and_nothing_else_does(mlp: keras.Model, data: Data) -> None:
    fast = [QuantizeAware(FAST, calibration=rows)(mlp, data)[0].get_weights() for rows in (0, 512, 512)]
    faster = QuantizeAware(Train(epochs=1, learning_rate=0.01, checkpoint=0))(mlp, data)[0].get_weights()
    assert not np.array_equal(fast[0][0], fast[1][0]) and not np.array_equal(fast[1][0], faster[0])
    assert all(np.array_equal(one, other) for one, other in zip(fast[1], fast[2], strict=True))


class Own(L.Layer):
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale


def with_own() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), Own(name="mine"), L.Dense(10, name="head")])


def test_an_unknown_layer_stays_float_and_trains(data: Data) -> None:
    made, report = QuantizeAware(Train(epochs=1, learning_rate=0.01, checkpoint=0))(with_own(), data)
    assert not np.allclose(made.get_layer("mine").scale, 1.0)
    assert any("'mine' (Own)" in note for note in report.notes)
    with pytest.raises(ValueError, match="'mine' of class Own.*Ways on"):
        QuantizeAware(FAST, opaque=())(with_own(), data)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(10)

    def call(self, inputs: Any) -> Any:
        return self.dense(keras.ops.reshape(inputs, (-1, 64)))


def test_what_is_refused(mlp: keras.Model, data: Data) -> None:
    with pytest.raises(ValueError, match="without a graph of layers.*Quantize"):
        QuantizeAware(FAST)(Subclassed(), data)
    for given, error, said in (
        ({"training": "adam"}, TypeError, "`training`"), ({"training": Train(precision="mixed_float16")}, ValueError, "precision"),
        ({"skip": "head"}, TypeError, "`skip`"), ({"keep_sparsity": 1}, ValueError, "`keep_sparsity`"),
        ({"keep_clusters": None}, ValueError, "`keep_clusters`"), ({"calibration": -1}, ValueError, "`calibration`"),
        ({"opaque": "mine"}, TypeError, "`opaque`"),
    ):  # fmt: skip
        with pytest.raises(error, match=said):
            QuantizeAware(**given)
    from kdfuse.bridge.imports import guests

    with pytest.raises(TypeError, match="belongs to TFMOT"):
        QuantizeAware(guests().tfmot.sparsity.keras.UpdatePruningStep())


def test_settings_have_names_for_search() -> None:
    technique = replace(QuantizeAware(), {"training__learning_rate": 0.5, "keep_sparsity": False})
    assert flatten(technique)["training__learning_rate"] == 0.5 and not technique.keep_sparsity


def test_dicts_and_several_outputs(data: Data) -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    x = L.Concatenate()([L.Dense(6, "relu")(a), L.Dense(6, "relu")(b)])
    model = keras.Model({"a": a, "b": b}, {"one": L.Dense(3, name="one")(x), "two": L.Dense(2, name="two")(x)})
    rng = np.random.default_rng(0)
    x, y = ({"a": rng.normal(size=(96, 4)).astype("float32"), "b": rng.normal(size=(96, 3)).astype("float32")},
            {"one": rng.integers(0, 3, 96), "two": rng.integers(0, 2, 96)})  # fmt: skip
    _, report = QuantizeAware(FAST)(model, Data(train=(x, y), validation=(x, y)))
    found = LiteModel(report.files["tflite"])(x)
    expected = model(x)
    assert set(found) == {"one", "two"} and all(np.abs(found[key] - expected[key]).mean() < 0.1 for key in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent", "transformer"])
def test_other_kinds_of_models_convert(name: str) -> None:
    import kdfuse as kf

    rng = np.random.default_rng(0)
    ids = rng.integers(1, 20, (128, 9)).astype("int32")
    data = Data(train=(ids, rng.integers(0, 3, 128)), validation=0.2)
    _, report = QuantizeAware(FAST)(getattr(kf.models, name)(data), data)
    assert report["quantization/difference"] < 0.05
    assert tf.io.gfile.exists(str(report.files["tflite"]))


def test_what_has_weights_is_int8_and_rescaling_and_norms_of_their_own_stay_float() -> None:
    given = keras.Input((8, 8, 1))
    x = L.SeparableConv2D(8, 3, activation="relu", depth_multiplier=2)(L.Rescaling(2.0, -1.0)(given))
    x = L.Conv1D(8, 3, padding="same")(L.Reshape((-1, 8))(L.PReLU(shared_axes=[1, 2])(x)))
    x = L.Multiply()([L.BatchNormalization()(x), L.LayerNormalization()(x)])
    model, data = keras.Model(given, L.Dense(10)(L.GlobalAveragePooling1D()(x))), Data(train=(X[:128], Y[:128]), validation=0.2)
    _, report = QuantizeAware(FAST)(model, data)
    assert report["quantization/difference"] < 0.05
    operations = read_file(report.files["tflite"].read_bytes()).operations
    whole = {one.name for one in operations if one.outputs[0].dtype == "int8"}
    assert {"DEPTHWISE_CONV_2D", "CONV_2D", "FULLY_CONNECTED", "PRELU", "MEAN"} <= whole
    for one in operations:
        if one.name in ("DEPTHWISE_CONV_2D", "CONV_2D", "FULLY_CONNECTED"):
            assert {tensor.dtype for tensor in (*one.inputs, *one.outputs)} <= {"int8", "int32"}, one


@pytest.mark.parametrize("values", [None, 8])
def test_a_dense_kernel_before_batch_norm_is_int8(values: int | None, data: Data) -> None:
    build = mlp_model(data, units=(32, 16), batch_norm=True)
    model = Train(epochs=8, learning_rate=0.01, checkpoint=0).apply(build, data).model
    given = Cluster(values, training=None).apply(model, data).model if values else model
    made, report = QuantizeAware(FAST)(given, data)
    operations = read_file(report.files["tflite"].read_bytes()).operations
    dense = [one for one in operations if one.name == "FULLY_CONNECTED"]
    assert len(dense) == 3 and all(tensor.dtype in ("int8", "int32") for one in dense for tensor in (*one.inputs, *one.outputs))
    assert report["quantization/difference"] < 0.05 and lite_accuracy(report, data) >= report["test/accuracy"] - 0.03
    for path, kernel in kernels(made).items():
        assert len(np.unique(kernel)) <= (values or 255), path


@pytest.mark.parametrize("shape", [(4, 16), (2, 2, 16)])
def test_a_dense_layer_over_places_is_int8_in_the_file(shape: tuple[int, ...]) -> None:
    given = keras.Input(shape)
    x = L.Dense(16, name="down")(L.Dense(32, activation="relu", name="up")(given))
    x = L.Flatten()(L.Add()([given, x]))
    model = keras.Model(given, L.Dense(10, name="head")(x))
    data = Data(train=(X[:128].reshape(-1, *shape), Y[:128]), validation=0.2)
    _, report = QuantizeAware(FAST)(model, data)
    operations = read_file(report.files["tflite"].read_bytes()).operations
    dense = [one for one in operations if one.name == "FULLY_CONNECTED"]
    assert len(dense) == 3 and all(tensor.dtype in ("int8", "int32") for one in dense for tensor in (*one.inputs, *one.outputs))
    assert {row["type"] for row in report.tables["quantization"]} == {"int8"}
    assert report["size/integer_share"] == 1.0 and report["quantization/difference"] < 0.05


def test_what_the_file_has_in_float_is_told(data: Data, convnet: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter is asked for a float file, which nobody can cause from outside."""
    from kdfuse.compress import quantize_aware as module

    monkeypatch.setattr(module, "to_litert", lambda model, **settings: to_litert(model))
    _, report = QuantizeAware(FAST)(convnet, data)
    assert {row["type"] for row in report.tables["quantization"]} == {"float, trained as int8"}
    assert any(note.startswith("Trained as int8, but the file has them in float: conv, inner") for note in report.notes)
