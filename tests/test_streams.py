import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from kdfuse.streams import StreamSplit

X, Y = load_digits(return_X_y=True)
X = (X[:50] / 16).astype(np.float32)
Y = Y[:50]


class Batches(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(index * 16, index * 16 + 16)
        return X[part], Y[part]


def stream(*parts: object) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(parts or (X, Y))


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_a_stream_is_read_as_it_is(kind: str) -> None:
    source = stream().batch(16) if kind == "tf.data" else Batches()
    split = StreamSplit(source)
    assert split.dataset(999) is source and not split.indexable
    assert split.steps(999) == 4 and split.rows is None
    assert split.input_shape == (64,)
    np.testing.assert_array_equal(split.targets(), Y)
    assert split.rows == 50 and split.weights() is None
    np.testing.assert_array_equal(split.head(20)[0], X[:20])
    assert [len(y) for _, y, _ in split.batches(999)] == [16, 16, 16, 2]


def test_structures_weights_and_open_shapes() -> None:
    weights = np.linspace(0.1, 1, 50)
    source = stream({"a": X, "b": X}, (Y, Y), weights).batch(7)
    split = StreamSplit(source)
    assert split.input_shape == {"a": (64,), "b": (64,)}
    np.testing.assert_allclose(split.weights(), weights.astype(np.float32))
    assert len(split.targets()) == 2

    def steps() -> object:
        yield from ((np.zeros((2, length, 3), np.float32), np.zeros(2, np.int64)) for length in (4, 5))

    spec = (tf.TensorSpec((None, None, 3), tf.float32), tf.TensorSpec((None,), tf.int64))
    ragged = StreamSplit(tf.data.Dataset.from_generator(steps, output_signature=spec))
    assert ragged.input_shape == (None, 3) and ragged.steps(1) is None
    assert ragged.targets().shape == (4,) and ragged.rows == 4


def test_batches_keep_the_pairs_of_a_shuffled_stream() -> None:
    split = StreamSplit(stream(np.arange(50), np.arange(50)).shuffle(50).batch(16))
    for x, y, _ in split.batches(1):
        np.testing.assert_array_equal(x, y)


def test_text() -> None:
    split = StreamSplit(stream(np.array(["good", "bad"]), np.array([1, 0])).batch(2))
    assert split.head(1)[0].tolist() == [b"good"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (stream(), "expected a batched"),
        (stream(X[:10], np.eye(10)), "expected a batched"),
        (stream().batch(8).repeat(), "a stream that ends"),
        (stream().batch(8).take(0), "at least one batch"),
        (stream(X).batch(8), "Labels are needed"),
        (tf.data.Dataset.from_tensor_slices({"x": X}).batch(8), "Labels are needed"),
        (stream(X * np.nan, Y).batch(8), "`data` x: expected finite"),
    ],
)
def test_bad_streams(source: tf.data.Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamSplit(source)


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_labels_by_name_come_in_an_order(kind: str) -> None:
    labels = {"a": Y, "b": -Y}

    class Named(Batches):
        def __getitem__(self, index: int) -> tuple:  # type: ignore[type-arg, override]
            x, y = super().__getitem__(index)
            return x, {"a": y, "b": -y}

    split = StreamSplit(stream(X, labels).batch(16) if kind == "tf.data" else Named())
    split.targets()
    made = split.in_order(["b", "a"])
    assert made.steps(1) == 4 and split.first.y.keys() == labels.keys()
    for found in (made.targets(), made.head(50)[1]):
        np.testing.assert_array_equal(found[0], -Y)
        np.testing.assert_array_equal(found[1], Y)
