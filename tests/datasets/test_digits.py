import numpy as np
from sklearn.datasets import load_digits as bundled

from kdfuse.datasets.digits import load_digits


def test_the_rows_are_those_of_scikit_learn() -> None:
    data = load_digits()
    assert (data.input_shape, data.classes, data.task, data.name) == ((8, 8, 1), 10, "classification", "digits")
    x = np.concatenate([split.x.reshape(-1, 64) for split in (data.train, data.validation, data.test)])  # type: ignore[union-attr]
    assert x.dtype == np.float32 and x.min() == 0 and x.max() == 1
    np.testing.assert_array_equal(np.unique(x * 16, axis=0), np.unique(bundled().data, axis=0))
    assert [split.rows for split in (data.train, data.validation, data.test)] == [1078, 360, 359]  # type: ignore[union-attr]


def test_the_test_split_is_the_same_for_every_seed_and_no_row_is_twice() -> None:
    one, other = load_digits(seed=1), load_digits(seed=2, validation=0.1)
    np.testing.assert_array_equal(one.test.x, other.test.x)  # type: ignore[union-attr]
    assert one.train.fingerprint != load_digits(seed=2).train.fingerprint  # type: ignore[attr-defined]
    assert load_digits(seed=1).fingerprint == one.fingerprint
    assert load_digits(validation=0).validation is None
