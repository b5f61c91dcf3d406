import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.measure.predict import one_pass, predict
from kdfuse.splits import ArraySplit
from kdfuse.streams import StreamSplit


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def model(**outputs):
    x = inputs = keras.Input((4,))
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(x))
    made = {name: keras.layers.Dense(units, name=name)(x) for name, units in (outputs or {"y": 3}).items()}
    return keras.Model(inputs, made if outputs else made["y"])


@pytest.mark.parametrize("batch_size", [1, 7, 10, 256])
def test_results_do_not_depend_on_the_batch_size(batch_size):
    net, x = model(), rows(23, 4)
    found = predict(net, ArraySplit(x, np.zeros(23)), batch_size)
    assert found.shape == (23, 3)
    np.testing.assert_allclose(found, net(x).numpy(), atol=1e-6)


def test_structures_and_half_precision():
    net = model(a=2, b=1)
    x = rows(10, 4)
    found = predict(net, ArraySplit(x, {"a": np.zeros(10), "b": np.zeros(10)}), 4)
    np.testing.assert_allclose(found["b"], net(x)["b"], atol=1e-6)
    half = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="mixed_bfloat16")])
    assert predict(half, ArraySplit(x, np.zeros(10))).dtype == "float32"


def test_the_model_is_left_as_it_was():
    net = model()
    net.compile("adam", "mse")
    states = [v.numpy().copy() for v in net.variables]
    predict(net, ArraySplit(rows(10, 4), np.zeros(10)), 4)
    assert net.compiled and net.predict_function is None and not net.stop_training
    for before, v in zip(states, net.variables, strict=True):
        np.testing.assert_array_equal(before, v.numpy())


def test_a_fixed_batch_size_is_filled_up():
    net = keras.Sequential([keras.Input(batch_shape=(8, 4)), keras.layers.Dense(3)])
    x = rows(11, 4)
    np.testing.assert_allclose(predict(net, ArraySplit(x, np.zeros(11))), x @ net.layers[0].kernel.numpy(), atol=1e-6)


def test_a_shuffled_stream_keeps_rows_together():
    x = rows(40, 4)
    y = np.arange(40)
    stream = StreamSplit(tf.data.Dataset.from_tensor_slices((x, y, y * 1.0)).shuffle(40).batch(7))
    net = model()
    first, second = one_pass(net, stream), one_pass(net, stream)
    expected = net(x).numpy()
    np.testing.assert_allclose(first.outputs, expected[first.targets], atol=1e-6)
    np.testing.assert_array_equal(first.weights, first.targets)
    assert sorted(first.targets) == list(range(40))
    assert first.mark != second.mark
    ordered = StreamSplit(tf.data.Dataset.from_tensor_slices((x, y)).batch(7))
    assert one_pass(net, ordered).mark == one_pass(net, ordered).mark


def test_a_pydataset():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return rows(5, 4, seed=index), np.full(5, index)

    net = model()
    found = one_pass(net, StreamSplit(Batches()))
    np.testing.assert_array_equal(found.targets, np.repeat([0, 1, 2], 5))
    np.testing.assert_allclose(found.outputs[5:10], net(rows(5, 4, seed=1)).numpy(), atol=1e-6)


def test_steps_of_unequal_length_are_an_error():
    inputs = keras.Input((None, 2))
    net = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    stream = tf.data.Dataset.from_generator(
        lambda: ((np.zeros((2, n, 2), "float32"), np.zeros((2, n), "int32")) for n in (3, 5)),
        output_signature=(tf.TensorSpec((None, None, 2)), tf.TensorSpec((None, None), tf.int32)),
    )
    with pytest.raises(ValueError, match="Pad the steps"):
        predict(net, StreamSplit(stream))
