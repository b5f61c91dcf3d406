import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from kdfuse.datasets import cifar10, files
from kdfuse.datasets.cifar10 import load_cifar10, parse


def batch(rows: int, protocol: int = 2) -> tuple[bytes, np.ndarray, np.ndarray]:
    """A batch like the published ones, of tiles of a photograph that scikit-learn brings along."""
    photo = load_sample_images().images[0]
    tiles = np.stack([photo[y : y + 32, x : x + 32] for y in range(0, 384, 32) for x in range(0, 608, 32)])
    x = np.resize(tiles, (rows, 32, 32, 3))
    y = np.arange(rows) % 10
    content = {b"data": x.transpose(0, 3, 1, 2).reshape(rows, 3072), b"labels": y.tolist(), b"batch_label": b"tiles"}
    return pickle.dumps(content, protocol=protocol), x, y


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("attacked",)


def test_channels_come_last() -> None:
    # Arrays of Python 3 at protocol 2 name `_codecs.encode`; protocol 5 needs no such name.
    content, x, y = batch(20, protocol=3)
    images, labels = parse(content, "batch", rows=20)
    np.testing.assert_array_equal(images, x)
    np.testing.assert_array_equal(labels, y)


def test_a_pickle_of_python_2_is_read() -> None:
    # Written by hand as Python 2 wrote it: bytes are `str`, the array is rebuilt by numpy.core.multiarray.
    pixels = bytes(range(256)) * 12
    content = (
        b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T\x00\x0c\x00\x00" + pixels + b"tbU\x06labelsq\x05]q\x06K\x07au."
    )
    images, labels = parse(content, "batch", rows=1)
    np.testing.assert_array_equal(images[0, 0, :, 0], np.arange(32))
    assert labels.tolist() == [7]


def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"names .*mkdir"):
        parse(pickle.dumps({b"data": Attack()}), "batch", rows=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps({}), pickle.dumps({b"data": 3, b"labels": [1]})])
def test_what_is_no_batch_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="batch: expected"):
        parse(content, "batch", rows=1)


def test_an_extracted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    content, x, _ = batch(100, protocol=3)
    monkeypatch.setattr("kdfuse.datasets.cifar10.ROWS", 100)
    for name in cifar10.BATCHES[:-1]:
        (folder / name).write_bytes(content)
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"none named \['test_batch'\]"):
        load_cifar10()
    (folder / "test_batch").write_bytes(content)
    data = load_cifar10(validation=0, labels=50)
    assert (data.input_shape, data.classes, data.train.rows, data.test.rows) == ((32, 32, 3), 10, 50, 100)  # type: ignore[union-attr]
    np.testing.assert_allclose(data.test.x[3] * 255, x[3], atol=1e-4)  # type: ignore[union-attr]


def test_the_archive_is_read_without_extracting_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, _, y = batch(100, protocol=3)
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in cifar10.BATCHES:
            member = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path))
    monkeypatch.setattr("kdfuse.datasets.cifar10.ROWS", 100)
    monkeypatch.setattr("kdfuse.datasets.cifar10.SHA256", files.digest(path))
    data = load_cifar10()
    assert (data.train.rows, data.validation.rows, list(tmp_path.iterdir())) == (450, 50, [path])  # type: ignore[union-attr]
    np.testing.assert_array_equal(data.test.y, y)  # type: ignore[union-attr]


def test_an_archive_that_is_not_the_published_one_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(f"{cifar10.FOLDER}/data_batch_1")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"junk"))
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="expected the published file, sha256 6d958be0"):
        load_cifar10()
