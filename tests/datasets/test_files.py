from pathlib import Path

import numpy as np
import pytest

from kdfuse.datasets import files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KDFUSE_DATA", str(tmp_path / "own"))
    return tmp_path


def test_the_own_folder_comes_before_the_keras_cache(cache: Path) -> None:
    assert files.find(["a.npz"]) is None
    for folder in ("keras/datasets", "own"):
        (cache / folder).mkdir(parents=True)
        (cache / folder / "a.npz").write_bytes(b"")
        assert files.find(["b.npz", "a.npz"]) == cache / folder / "a.npz"


def test_a_download_is_checked_and_kept(cache: Path) -> None:
    source = cache / "published.npz"
    np.savez(source, x=np.arange(3, dtype=np.uint8))
    path = files.download("a.npz", source.as_uri(), files.digest(source))
    assert path == cache / "keras" / "datasets" / "a.npz" == files.find(["a.npz"])
    with pytest.raises(OSError, match=r"could not be downloaded.*KDFUSE_DATA"):
        files.download("b.npz", source.as_uri(), "0" * 64)
    with pytest.raises(OSError, match=r"could not be downloaded.*KDFUSE_DATA"):
        files.download("c.npz", (cache / "missing.npz").as_uri(), "0" * 64)


def test_without_a_hash_any_file_comes(cache: Path) -> None:
    source = cache / "packed.zip"
    source.write_bytes(b"packed anew")
    assert files.download("d.zip", source.as_uri(), None).read_bytes() == b"packed anew"


def test_npz_without_pickle(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="readable"):
        files.read_npz(path, {"x": (1,)})
    np.savez(path, x=np.zeros(3, np.uint8))
    assert files.read_npz(path, {"x": (3,)})[0]["x"].shape == (3,)
    for shapes in ({"x": (4,)}, {"x": (3,), "y": (3,)}):
        with pytest.raises(ValueError, match="expected the arrays"):
            files.read_npz(path, shapes)
