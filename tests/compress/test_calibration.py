import numpy as np
import tensorflow as tf

from kdfuse.compress.calibration import calibration, tensors
from kdfuse.data import Data

X, Y = np.arange(100, dtype="float32")[:, None], np.arange(100) % 2


def test_rows_are_drawn_once_and_by_the_seed():
    data = Data(train=(X, Y, np.ones(100, "float32")))
    batches = list(calibration(data, 50, seed=1, size=20))
    assert [len(x) for x, _, _ in batches] == [17, 17, 16] and all(len(weights) == len(y) for _, y, weights in batches)
    drawn = np.concatenate([x[:, 0] for x, _, _ in batches])
    assert len(set(drawn)) == 50 and (np.concatenate([y for _, y, _ in batches]) == drawn % 2).all()
    again, other = (np.concatenate([x[:, 0] for x, _, _ in calibration(data, 50, seed=seed, size=20)]) for seed in (1, 2))
    assert (again == drawn).all() and set(other) != set(drawn)
    assert sum(len(x) for x, _, _ in calibration(data, 1000)) == 100


def test_of_a_stream_the_first_batches():
    stream = tf.data.Dataset.from_tensor_slices((X, Y)).batch(30)
    data = Data(train=stream, class_names=["even", "odd"])
    assert [len(x) for x, _, _ in calibration(data, 40)] == [30, 30]
    assert tf.is_tensor(tensors({"a": X})["a"])
