import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import save_litert, to_litert

layers = keras.layers


@pytest.fixture(scope="module")
def rows():
    return (load_digits().images[:64, ..., None] / 16).astype("float32")


@pytest.fixture(scope="module")
def convnet():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, activation="relu")(inputs))
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="digits")


def test_each_kind_is_as_near_and_as_small_as_its_numbers(convnet, rows):
    before = [variable.numpy().copy() for variable in convnet.variables]
    expected = convnet(rows).numpy()
    sizes, errors, shares = {}, {}, {}
    for kind in (None, "dynamic", "float16", "int8"):
        lite = LiteModel(to_litert(convnet, quantize=kind, representative=rows if kind == "int8" else None))
        sizes[kind], errors[kind], shares[kind] = lite.bytes, np.abs(lite(rows) - expected).max(), lite.integer_share
    assert errors[None] < 1e-6 < errors["float16"] < 1e-3 and 1e-6 < errors["int8"] < 0.02 and 1e-6 < errors["dynamic"] < 0.02
    assert sizes[None] > 1.8 * sizes["float16"] > 1.8 * 1.3 * sizes["dynamic"] and sizes["int8"] < 0.35 * sizes[None]
    assert shares == {None: 0.0, "dynamic": 0.0, "float16": 0.0, "int8": 1.0}
    for old, variable in zip(before, convnet.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    assert all(layer.trainable for layer in convnet.layers)


def test_nothing_is_printed(convnet, rows, capfd):
    to_litert(convnet, quantize="int8", representative=rows[:4])
    assert capfd.readouterr() == ("", "")


def test_representative_rows_are_a_batch_or_batches(convnet, rows):
    batch = to_litert(convnet, quantize="int8", representative=rows[:20])
    batches = to_litert(convnet, quantize="int8", representative=(rows[start : start + 10] for start in (0, 10)))
    other = to_litert(convnet, quantize="int8", representative=rows[:20] * 3)
    assert np.array_equal(LiteModel(batch)(rows), LiteModel(batches)(rows))
    assert not np.array_equal(LiteModel(batch)(rows), LiteModel(other)(rows))


@pytest.mark.parametrize(
    ("representative", "problem"),
    [
        (None, "`representative`: expected inputs of some hundred training rows for quantize='int8'.*data.example"),
        (np.full((3, 8, 8, 1), np.nan, "float32"), "`representative`: expected finite values.*first in row 0"),
        (iter([]), "`representative`: expected at least one row"),
        (np.zeros((0, 8, 8, 1), "float32"), "`representative`: expected at least one row"),
        (np.float32(3), "`representative`: expected arrays with the same number of rows"),
    ],
)
def test_int8_without_rows_it_can_use(convnet, representative, problem):
    with pytest.raises(ValueError, match=problem):
        to_litert(convnet, quantize="int8", representative=representative)


def test_wrong_settings(convnet):
    with pytest.raises(ValueError, match="`quantize`: expected one of .* Received: quantize='int7'"):
        to_litert(convnet, quantize="int7")
    with pytest.raises(ValueError, match="`integer_io`: expected False unless quantize='int8'"):
        to_litert(convnet, integer_io=True)


def test_a_fixed_batch_gives_a_plain_graph(convnet, rows):
    open_batch, fixed = LiteModel(to_litert(convnet)), LiteModel(to_litert(convnet, batch_size=4))
    assert open_batch.inputs[0].shape == (-1, 8, 8, 1) and fixed.inputs[0].shape == (4, 8, 8, 1)
    np.testing.assert_allclose(open_batch(rows[:7]), fixed(rows[:7]), atol=1e-6)
    assert fixed.bytes < open_batch.bytes


def test_zeros_stored_as_sparse_take_less_room(rows):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(256)])
    kernel = model.layers[0].kernel
    kernel.assign(np.where(np.random.default_rng(0).random(kernel.shape) < 0.9, 0, kernel.numpy()))
    dense, sparse = to_litert(model), to_litert(model, sparse=True)
    assert len(sparse) < 0.5 * len(dense)
    x = rows.reshape(-1, 64)
    np.testing.assert_allclose(LiteModel(sparse)(x), LiteModel(dense)(x), atol=1e-5)


def recurrent(unroll=False):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,), dtype="int32")
    x = layers.LSTM(8, unroll=unroll)(layers.Embedding(20, 4, mask_zero=True)(inputs))
    return keras.Model(inputs, layers.Dense(2)(x), name="words")


def test_recurrent_layers_run_one_row_after_another():
    model, x = recurrent(), np.random.default_rng(0).integers(0, 20, (5, 6)).astype("int32")
    lite = LiteModel(to_litert(model))
    np.testing.assert_allclose(lite(x), model(x), atol=1e-6)
    np.testing.assert_array_equal(lite(x), lite(x))


def test_int8_of_a_loop_is_refused_and_unrolled_works():
    x = np.random.default_rng(0).integers(0, 20, (16, 6)).astype("int32")
    with pytest.raises(ValueError, match="`quantize`: expected a model without loops.*'words'.*unroll=True.*'dynamic'"):
        to_litert(recurrent(), quantize="int8", representative=x)
    model = recurrent(unroll=True)
    lite = LiteModel(to_litert(model, quantize="int8", representative=x))
    assert lite.integer_share > 0.5 and np.abs(lite(x) - model(x).numpy()).max() < 0.05


def test_attention_and_dynamic_lengths():
    inputs = keras.Input((None, 6))
    x = layers.LayerNormalization()(inputs + layers.MultiHeadAttention(2, 3)(inputs, inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    lite = LiteModel(to_litert(model))
    for shape in ((3, 5, 6), (2, 9, 6)):
        x = np.random.default_rng(0).random(shape, "float32")
        np.testing.assert_allclose(lite(x), model(x), atol=1e-5)


class Own(keras.Model):
    def __init__(self, branch):
        super().__init__(name="own")
        self.dense, self.branch = layers.Dense(3), branch

    def call(self, inputs):
        return -self.dense(inputs) if self.branch and float(inputs[0, 0]) > 0 else self.dense(inputs)


def test_subclassed_models():
    x = np.random.default_rng(0).random((4, 5), "float32")
    model = Own(branch=False)
    expected = model(x)
    np.testing.assert_allclose(LiteModel(to_litert(model, example=x))(x), expected, atol=1e-6)
    branching = Own(branch=True)
    branching(x)
    with pytest.raises(ValueError, match="`model`: 'own' cannot be traced: .*functional API.*\\.keras file"):
        to_litert(branching, example=x)


def test_an_operation_that_lite_lacks_is_named_with_the_way_on():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.linalg.det(keras.ops.reshape(inputs, (-1, 2, 2))), name="determinant")
    with pytest.raises(ValueError, match="'determinant' cannot be converted to LiteRT: .*MatrixDeterminant.*select_tf_ops=True"):
        to_litert(model)
    with pytest.raises(ValueError, match="LiteRT does not load the model: .*Flex"):
        LiteModel(to_litert(model, select_tf_ops=True))


def test_saving(tmp_path, convnet, rows):
    data = to_litert(convnet)
    path = save_litert(data, tmp_path / "new" / "model.tflite")
    assert path.read_bytes() == data and [file.name for file in path.parent.iterdir()] == ["model.tflite"]
    with pytest.raises(ValueError, match=r"expected a name that ends in .tflite. Received: 'model.lite'. Give 'model.tflite'"):
        save_litert(data, tmp_path / "model.lite")
    with pytest.raises(ValueError, match="`data`: expected the bytes of a LiteRT model"):
        save_litert(b"nothing of the kind", tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()


def test_a_tf_keras_model_goes_the_same_way(rows):
    tf_keras = pytest.importorskip("tf_keras")
    first, second = tf_keras.Input((8, 8, 1), name="image"), tf_keras.Input((2,), name="a")
    x = tf_keras.layers.Dense(3)(tf_keras.layers.Flatten()(tf_keras.layers.Conv2D(4, 3, activation="relu")(first)))
    model = tf_keras.Model([first, second], [x, tf_keras.layers.Dense(1)(second)])
    given = [rows, rows[:, 0, :2, 0]]
    expected = model(given)
    found = LiteModel(to_litert(model))(given)
    assert isinstance(found, list)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert LiteModel(to_litert(model, quantize="int8", representative=given)).integer_share == 1.0
