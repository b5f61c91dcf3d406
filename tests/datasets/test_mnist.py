from pathlib import Path

import numpy as np
import pytest

from kdfuse.datasets import files
from kdfuse.datasets.mnist import load_mnist

needs_file = pytest.mark.skipif(files.find(["mnist.npz"]) is None, reason="needs mnist.npz in KDFUSE_DATA or in the Keras cache")


@needs_file
def test_the_official_split_scaled() -> None:
    data = load_mnist(validation=0.1, labels=100)
    path = files.find(["mnist.npz"])
    assert path is not None
    with np.load(path, allow_pickle=False) as raw:
        np.testing.assert_allclose(data.test.x[:, :, :, 0] * 255, raw["x_test"], atol=1e-4)  # type: ignore[union-attr]
        np.testing.assert_array_equal(data.test.y, raw["y_test"])  # type: ignore[union-attr]
    assert (data.input_shape, data.classes, data.validation.rows, data.train.rows) == ((28, 28, 1), 10, 6000, 100)  # type: ignore[union-attr]
    counts = np.bincount(data.train.targets(), minlength=10)
    assert counts.min() >= 8 and counts.max() <= 12


@needs_file
def test_changed_contents_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.find(["mnist.npz"])
    assert path is not None
    with np.load(path, allow_pickle=False) as raw:
        arrays = {name: raw[name] for name in raw.files}
    arrays["y_train"] = arrays["y_train"][::-1]
    np.savez(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="expected the published file, sha256 731c5ac6"):
        load_mnist()


def test_a_broken_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"no archive")
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"mnist\.npz: expected a readable \.npz file"):
        load_mnist()
