"""Weights of classes, beside weights of rows and on labels of every form."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.fitting.weighing import weighed
from kdfuse.train import Train

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 4)).astype("float32")
Y = np.arange(20) % 3
ROWS = RNG.random(20).astype("float32") + 0.5
STEPS = RNG.integers(0, 3, (20, 5))
TABLE = {0: 2.0, 2: 0.5}
EACH = np.array([2.0, 1.0, 0.5], "float32")
FAST = Train(epochs=2, batch_size=8)


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays: np.ndarray) -> None:
        super().__init__()
        self.arrays = arrays

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return tuple(array[8 * index : 8 * index + 8] for array in self.arrays)


FORMS = {
    "numbers": ((X, Y), EACH[Y]),
    "a column": ((X, Y[:, None]), EACH[Y]),
    "one-hot": ((X, np.eye(3, dtype="float32")[Y]), EACH[Y]),
    "rows count": ((X, Y, ROWS), EACH[Y] * ROWS),
    "booleans": ((X, Y == 2), np.array([2.0, 1.0], "float32")[(Y == 2).astype(int)]),
    "steps": ((X, STEPS), EACH[STEPS]),
    "steps of rows that count": ((X, STEPS, ROWS), EACH[STEPS] * ROWS[:, None]),
    "steps that count": ((X, STEPS, EACH[STEPS]), EACH[STEPS] ** 2),
}


@pytest.mark.parametrize("kind", ["arrays", "stream", "PyDataset"])
@pytest.mark.parametrize("form", FORMS)
def test_a_label_counts_by_its_class_times_its_row(form: str, kind: str) -> None:
    given, expected = FORMS[form]
    source = {"arrays": given, "stream": tf.data.Dataset.from_tensor_slices(given).batch(8), "PyDataset": Batches(*given)}[kind]
    data = Data(train=source)
    batches = weighed(data.train.dataset(8), {0: 2.0} if form == "booleans" else TABLE, data)
    found = [np.asarray(batches[place][2]) for place in range(3)] if kind == "PyDataset" else [np.asarray(batch[2]) for batch in batches]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-6)
    assert weighed(source, None, data) is source


def test_classes_and_rows_together_are_the_product_of_both() -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    by_hand = Data(train=(X, Y, EACH[Y] * ROWS))
    both = Train(epochs=2, batch_size=8, class_weight=TABLE)
    for one, other in ((both, FAST), (Distill(model, training=both), Distill(model, training=FAST))):
        ours, theirs = one(model, Data(train=(X, Y, ROWS)))[0], other(model, by_hand)[0]
        np.testing.assert_allclose(ours.get_weights()[0], theirs.get_weights()[0], rtol=1e-6)
