import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.datasets import fashion_mnist, files
from kdfuse.datasets.fashion_mnist import load_fashion_mnist


def idx(array: np.ndarray) -> bytes:
    """An array in the IDX format of the published files."""
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four files with real digits in them, grown to 28x28, and their hashes in the place of the published ones."""
    x, y = load_digits(return_X_y=True)
    images = np.pad(np.kron(x.reshape(-1, 8, 8), np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))).astype(np.uint8) * 15
    target = tmp_path / "fashion-mnist"
    target.mkdir()
    hashes = {}
    for prefix, rows in (("train", slice(0, 200)), ("t10k", slice(200, 260))):
        for kind, array in (("images-idx3", images[rows]), ("labels-idx1", y[rows].astype(np.uint8))):
            name = f"{prefix}-{kind}-ubyte.gz"
            (target / name).write_bytes(idx(array))
            hashes[name] = hashlib.sha256((target / name).read_bytes()).hexdigest()
    monkeypatch.setattr("kdfuse.datasets.fashion_mnist.SHA256", hashes)
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path))
    return target


def test_the_idx_files_are_read(folder: Path) -> None:
    data = load_fashion_mnist(validation=0.2)
    assert (data.input_shape, data.classes, data.train.rows, data.test.rows) == ((28, 28, 1), 10, 160, 60)  # type: ignore[union-attr]
    x, y = load_digits(return_X_y=True)
    np.testing.assert_array_equal(data.test.y, y[200:260])  # type: ignore[union-attr]
    np.testing.assert_allclose(data.test.x[:, 2:26:3, 2:26:3, 0] * 17, x[200:260].reshape(-1, 8, 8), rtol=1e-5)  # type: ignore[union-attr]
    assert data.class_names is not None and data.class_names[9] == "Ankle boot"


def test_a_changed_file_is_refused(folder: Path) -> None:
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"t10k-labels.*expected the published file"):
        load_fashion_mnist()


def test_the_names_are_those_of_the_published_files() -> None:
    assert len(fashion_mnist.SHA256) == 4 and all(len(each) == 64 for each in fashion_mnist.SHA256.values())


@pytest.mark.skipif(files.find(["fashion-mnist"]) is None, reason="needs the folder fashion-mnist in KDFUSE_DATA or in the Keras cache")
def test_the_real_set() -> None:
    data = load_fashion_mnist()
    assert (data.train.rows, data.test.rows) == (54000, 10000)  # type: ignore[union-attr]
    np.testing.assert_array_equal(np.bincount(data.test.y), np.full(10, 1000))  # type: ignore[union-attr]
