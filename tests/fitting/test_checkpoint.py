import subprocess
import sys

import keras
import ml_dtypes
import numpy as np
import pytest

from kdfuse.fitting.checkpoint import Checkpoints, Shelf, State, read, write
from tests.test_home import limited

ARRAYS = [np.arange(6, dtype="float32").reshape(2, 3), np.array(7, "int64"), np.ones((2,), ml_dtypes.bfloat16), np.zeros((0, 3), "uint8")]


def test_a_state_comes_back_bit_by_bit(tmp_path):
    write(tmp_path / "a.ckpt", State({"epoch": 3, "names": ["x"]}, {"weights": ARRAYS, "none": []}))
    state = read(tmp_path / "a.ckpt")
    assert state.meta == {"epoch": 3, "names": ["x"]} and state.arrays["none"] == []
    for ours, theirs in zip(state.arrays["weights"], ARRAYS, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()


DAMAGES = [lambda raw: raw[:-1], lambda raw: raw[:40] + b"x" + raw[41:], lambda raw: b"", lambda raw: raw[:-3] + b"abc"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_told_from_a_whole_one(tmp_path, damage):
    path = tmp_path / "a.ckpt"
    write(path, State({"epoch": 0}, {"weights": ARRAYS}))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        read(path)


def test_every_truncation_and_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.ckpt"
    write(path, State({"epoch": 0}, {"weights": [np.arange(3, dtype="float32")]}))
    whole = path.read_bytes()
    for place in range(len(whole)):
        for raw in (whole[:place], whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]):
            path.write_bytes(raw)
            with pytest.raises(ValueError, match="not a whole checkpoint"):
                read(path)


def test_where_both_are_damaged_training_begins_again(tmp_path):
    shelf = Shelf(tmp_path / "fit-0")
    for epoch in range(2):
        shelf.put(epoch, State({"epoch": epoch}, {}))
    for path, raw in zip((tmp_path / "fit-0").glob("*.ckpt"), (b"", b"half"), strict=True):
        path.write_bytes(raw)
    with pytest.warns(UserWarning, match="damaged") as caught:
        assert shelf.newest() is None
    assert len(caught) == 2


def test_a_disk_without_room_keeps_the_two_before_and_says_what_to_mend(tmp_path):
    shelf = Shelf(tmp_path / "fit-0")
    for epoch in range(2):
        shelf.put(epoch, State({"epoch": epoch}, {"weights": ARRAYS}))
    big = State({"epoch": 2}, {"weights": [np.zeros(10_000, "float32")]})
    with limited(20_000), pytest.warns(UserWarning, match="epoch 2 could not be written.*Make room on the disk of"):
        shelf.put(2, big)
    assert [read(path).meta["epoch"] for path in sorted((tmp_path / "fit-0").iterdir()) if path.suffix == ".ckpt"] == [0, 1]
    assert not list((tmp_path / "fit-0").glob(".*")), "no half file is left"
    shelf.put(2, big)
    assert shelf.newest().meta == {"epoch": 2}


def test_the_shelf_keeps_two_and_falls_back_to_the_older_where_the_newer_is_damaged(tmp_path):
    shelf = Shelf(tmp_path / "fit-0")
    for epoch in range(4):
        shelf.put(epoch, State({"epoch": epoch}, {}))
    names = sorted(path.name for path in (tmp_path / "fit-0").glob("*.ckpt"))
    assert names == ["epoch-000002.ckpt", "epoch-000003.ckpt"]
    (tmp_path / "fit-0" / names[1]).write_bytes(b"half")
    with pytest.warns(UserWarning, match="damaged"):
        assert shelf.newest().meta == {"epoch": 2}


def test_only_one_holder_at_a_time_and_a_dead_holder_lets_go(tmp_path):
    code = (
        "import sys, pathlib; from kdfuse.fitting.checkpoint import Shelf\n"
        f"shelf = Shelf(pathlib.Path({str(tmp_path / 'fit-0')!r}))\n"
        "print(shelf.open, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "True"
        second = Shelf(tmp_path / "fit-0")
        assert second.taken and not second.open and second.newest() is None
        second.put(0, State({"epoch": 0}, {}))
        assert not list((tmp_path / "fit-0").glob("*.ckpt"))
    finally:
        holder.kill()
        holder.wait()
    assert Shelf(tmp_path / "fit-0").open


def test_no_folder_keeps_nothing():
    shelf = Shelf(None)
    shelf.put(0, State({}, {}))
    assert not shelf.open and not shelf.taken and shelf.newest() is None


def test_a_loss_scaling_optimizer_comes_back(tmp_path):
    def made():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)), "mse", jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        return model

    shelf = Shelf(tmp_path)
    first, second = made(), made()
    first.fit(np.ones((4, 2), "float32"), np.ones((4, 1), "float32"), callbacks=[Checkpoints(shelf, 1, [])], verbose=0)
    assert Checkpoints(shelf, 1, []).resume(second) == 1
    assert len(second.optimizer.variables) == len(first.optimizer.variables)
    for ours, theirs in zip(second.optimizer.variables, first.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    shelf.close()
