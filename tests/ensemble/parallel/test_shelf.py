"""Arrays that an unfinished run keeps."""

import keras
import numpy as np
import pytest

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.ensemble.parallel.shelf import Shelf
from kdfuse.keys import state_folder
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique

DATA = Data(train=(np.ones((9, 2), "float32"), np.arange(9) % 3))


def test_in_a_run_they_outlive_it_until_it_is_finished():
    @settings
    class Some(Technique):
        fail: bool = True

        def apply(self, model, data):
            shelf = Shelf(data)
            seen.append(shelf.get("weights"))
            shelf.put("weights", [np.arange(3), np.float32(2.5)])
            shelf.put("other", [np.zeros(1)])
            shelf.drop("other")
            folders.append(state_folder(recording.current().key) / "weights")
            assert [path.name for path in folders[-1].iterdir()] == ["weights.npz"]
            if len(seen) == 1:
                raise KeyboardInterrupt
            return Result(model)

    seen, folders = [], []
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    with pytest.raises(KeyboardInterrupt):
        Some()(model, DATA)
    Some()(model, DATA)
    assert seen[0] is None
    np.testing.assert_array_equal(seen[1][0], [0, 1, 2])
    assert seen[1][1] == 2.5 and not folders[0].exists()


def test_outside_a_run_they_are_in_memory_alone():
    shelf, array = Shelf(DATA), np.arange(3)
    shelf.put("a", [array])
    array[0] = 9
    np.testing.assert_array_equal(shelf.get("a")[0], [0, 1, 2])
    assert shelf.folder is None and shelf.get("b") is None
