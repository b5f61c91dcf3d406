import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from kdfuse.data import Data
from kdfuse.measure.measure import agreement_with, measure
from kdfuse.report import figure

layers = keras.layers


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    return x, y


@pytest.fixture(scope="module")
def data(digits):
    x, y = digits
    return Data((x[:300], y[:300]), validation=(x[300:360], y[300:360]), test=(x[360:500], y[360:500]))


def classifier(activation=None, units=10, seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((64,)), layers.Dense(8), layers.Dense(units, activation=activation)])


def test_everything_of_a_classifier(data, digits):
    model = classifier("softmax")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*digits, verbose=0)
    before = [v.numpy().copy() for v in model.variables]
    function = model.predict_function
    found = measure(model, data)
    assert found.head == "softmax"
    quality = {f"{split}/{name}" for split in ("validation", "test") for name in ("accuracy", "macro_f1", "log_loss", "ece")}
    sizes = {f"size/{name}" for name in ("parameters", "nonzero", "unique", "huffman_bytes", "keras_bytes", "gzip_bytes")}
    assert set(found.metrics) == quality | sizes | {"cost/macs", "latency/p50_ms", "latency/p95_ms"}
    assert all(figure(name) is not None and type(value) is float for name, value in found.metrics.items())
    x, y = digits
    guesses = model(x[360:500]).numpy().argmax(-1)
    assert found.metrics["test/accuracy"] == pytest.approx((guesses == y[360:500]).mean())
    assert found.metrics["cost/macs"] == 64 * 8 + 8 * 10
    assert (
        set(found.tables) == {"confusion/test"}
        and sum(row[row["true"]] for row in found.tables["confusion/test"]) == (guesses == y[360:500]).sum()
    )
    assert found.outputs["validation"].shape == (60, 10)
    assert model.predict_function is function and model.compiled
    for old, v in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, v.numpy())


def test_logits_and_their_softmax_measure_alike(data):
    raw = classifier()
    soft = keras.Sequential([raw, layers.Softmax()])
    one, other = (measure(model, data, latency=False, splits=("test",)) for model in (raw, soft))
    for name in ("accuracy", "macro_f1", "log_loss", "ece"):
        assert one.metrics[f"test/{name}"] == pytest.approx(other.metrics[f"test/{name}"], rel=1e-4)
    assert agreement_with(one, other) == {"kd/agreement": 1.0}
    assert "latency/p50_ms" not in one.metrics and "validation/accuracy" not in one.metrics


def test_agreement_is_on_test_else_validation(data):
    models = classifier(seed=0), classifier(seed=1)
    one, other = (measure(model, data, latency=False) for model in models)
    expected = (one.outputs["test"].argmax(-1) == other.outputs["test"].argmax(-1)).mean()
    assert agreement_with(one, other)["kd/agreement"] == pytest.approx(expected)
    one, other = (measure(model, data, latency=False, splits=("validation",)) for model in models)
    assert agreement_with(one, other)["kd/agreement"] == pytest.approx(
        (one.outputs["validation"].argmax(-1) == other.outputs["validation"].argmax(-1)).mean()
    )


def test_regression_has_no_agreement(digits):
    x, y = digits
    data = Data((x[:100], y[:100] * 0.5), test=(x[100:150], y[100:150] * 0.5), task="regression")
    found = measure(classifier(units=1), data, latency=False)
    assert {"test/mae", "test/rmse", "test/r2"} <= set(found.metrics) and not found.tables
    assert agreement_with(found, found) == {}


@pytest.mark.parametrize("as_dict", [True, False])
def test_several_outputs(digits, as_dict):
    x, y = digits
    inputs = keras.Input((64,))
    made = {"digit": layers.Dense(10, name="digit")(inputs), "odd": layers.Dense(1, activation="sigmoid", name="odd")(inputs),
            "ink": layers.Dense(1, name="ink")(inputs)}  # fmt: skip
    model = keras.Model(inputs, made if as_dict else list(made.values()))
    targets = {"digit": y, "odd": (y % 2)[:, None], "ink": x.sum(-1)}
    task = {"digit": "classification", "odd": "binary", "ink": "regression"}
    if not as_dict:
        targets, task = tuple(targets.values()), tuple(task.values())

    def part(a, b):
        return x[a:b], {k: v[a:b] for k, v in targets.items()} if as_dict else tuple(v[a:b] for v in targets)

    found = measure(model, Data(part(0, 100), test=part(100, 200), task=task), latency=False)
    assert {"test/digit/accuracy", "test/odd/accuracy", "test/ink/rmse", "test/accuracy", "test/macro_f1"} <= set(found.metrics)
    assert "test/rmse" not in found.metrics and not found.tables
    mean = (found.metrics["test/digit/accuracy"] + found.metrics["test/odd/accuracy"]) / 2
    assert found.metrics["test/accuracy"] == pytest.approx(mean)
    assert agreement_with(found, found) == {"kd/agreement": 1.0}


def test_streams_measure_as_arrays_do(data, digits):
    x, y = digits
    model = classifier()

    def stream(a, b, shuffle):
        made = tf.data.Dataset.from_tensor_slices((x[a:b], y[a:b]))
        return (made.shuffle(200) if shuffle else made).batch(13)

    expected = measure(model, data, latency=False, splits=("test",))
    for shuffle in (True, False):
        streams = Data(stream(0, 300, False), test=stream(360, 500, shuffle))
        found = [measure(model, streams, latency=False, splits=("test",)) for _ in range(2)]
        for name in ("accuracy", "macro_f1", "log_loss", "ece"):
            assert found[0].metrics[f"test/{name}"] == pytest.approx(expected.metrics[f"test/{name}"], rel=1e-5)
        assert agreement_with(*found) == ({} if shuffle else {"kd/agreement": 1.0})


def test_sample_weights_and_masks():
    x = np.array([[1, 2, 0], [3, 0, 0]])
    y = np.array([[1, 1, 1], [0, 0, 0]])
    inputs = keras.Input((3,), dtype="int32")
    hidden = layers.Embedding(5, 4, mask_zero=True)(inputs)
    model = keras.Model(
        inputs, layers.Dense(2, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant([0.0, 1.0]))(hidden)
    )
    assert measure(model, Data((x, y), test=(x, y), task="classification"), latency=False).metrics["test/accuracy"] == pytest.approx(2 / 3)
    weighted = Data((x, y), test=(x, y, np.array([1.0, 3.0])), task="classification")
    assert measure(model, weighted, latency=False).metrics["test/accuracy"] == pytest.approx(2 / 5)


def test_a_diverged_model_is_an_error(data):
    model = classifier()
    model.layers[0].kernel.assign(np.full((64, 8), np.nan))
    with pytest.raises(ValueError, match="NaN"):
        measure(model, data)


def test_a_declared_head_that_contradicts(data):
    with pytest.raises(ValueError, match="softmax"):
        measure(classifier("softmax"), data, head="logits")


def test_subclassed(data):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = layers.Dense(10)

        def call(self, inputs):
            return self.out(inputs)

    found = measure(Subclassed(), data, latency=False)
    assert found.metrics["cost/macs"] == 640 and found.metrics["size/parameters"] == 650 and "test/accuracy" in found.metrics
