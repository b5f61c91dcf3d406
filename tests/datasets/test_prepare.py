import numpy as np
import pytest

from kdfuse.datasets.digits import load_digits
from kdfuse.datasets.prepare import divided, images, with_labels


def test_images_become_float32_with_channels() -> None:
    arrays = {f"x_{part}": np.arange(256, dtype=np.uint8).reshape(4, 8, 8) for part in ("train", "test")}
    arrays |= {f"y_{part}": np.array([[0], [1], [0], [1]], np.uint8) for part in ("train", "test")}
    data = images("tiny", arrays, ["a", "b"], 0, None, 0)
    assert data.input_shape == (8, 8, 1) and data.train.targets().dtype == np.int64 and data.validation is None
    expected = (np.arange(256) / 255).astype(np.float32)
    np.testing.assert_allclose(data.train.head(4)[0].ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("labels", [10, 37, 1078])
def test_fewer_labels_hold_every_class(labels: int) -> None:
    data = with_labels(load_digits(), labels)
    counts = np.bincount(data.train.targets(), minlength=10)
    assert data.train.rows == labels and counts.min() >= 1 and counts.max() - counts.min() <= 12
    assert data.test is not None and data.test.rows == 359


@pytest.mark.parametrize("labels", [0, 9, 1079, True])
def test_impossible_numbers_of_labels(labels: int) -> None:
    with pytest.raises(ValueError, match="`labels`: expected an integer from 10 .* to 1078"):
        with_labels(load_digits(), labels)


def test_one_row_in_parts_is_for_the_test_split() -> None:
    x, y = np.arange(40, dtype=np.float32)[:, None], np.arange(40) % 2
    for parts, rows in ((5, 8), (10, 4)):
        data = divided("tiny", x, y, ["even", "odd"], 0.25, None, 3, parts=parts)
        assert data.test is not None and data.test.rows == rows and np.bincount(data.test.targets()).tolist() == [rows / 2, rows / 2]
