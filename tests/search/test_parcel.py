import io
import tarfile

import pytest

from kdfuse.keys import state_folder
from kdfuse.search.parcel import pack, sign, unpack


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path / "here"))


def test_checkpoints_arrive_where_they_are_looked_for(tmp_path, monkeypatch):
    assert pack(None) is None and pack("nobody") is None
    for place in ("fit-0", "fit-1"):
        (state_folder("one") / place).mkdir(parents=True)
        (state_folder("one") / place / "epoch-000002.ckpt").write_text(place)
        (state_folder("one") / place / "lock").write_text("")
    packed = pack("one")
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path / "there"))
    (state_folder("one") / "fit-0").mkdir(parents=True)
    (state_folder("one") / "fit-0" / "epoch-000001.ckpt").write_text("older")
    unpack("one", packed)
    folder = state_folder("one")
    found = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {"fit-0/epoch-000002.ckpt": "fit-0", "fit-1/epoch-000002.ckpt": "fit-1"}


@pytest.mark.parametrize("name", ["../../elsewhere.ckpt", "/elsewhere.ckpt"])
def test_no_file_goes_elsewhere(name, tmp_path):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match="not a file of its run"):
        unpack("one", memory.getvalue())
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_sign_is_there_for_a_block_and_may_not_be_writable(tmp_path, monkeypatch):
    with sign() as seen:
        assert seen.is_file() and seen.is_relative_to(tmp_path / "here")
    assert not seen.exists()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path / "file"))
    with sign() as seen:
        assert not seen.is_file()
