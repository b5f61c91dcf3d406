import sys

import keras
import numpy as np
import pytest

from kdfuse.export import lite_trust
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.lite_trust import is_sealed, is_whole, seal, survives, unsealed
from kdfuse.export.litert import to_litert


@pytest.fixture(scope="module")
def data():
    return to_litert(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))


def test_a_seal_is_put_on_once(data):
    assert is_sealed(data) and is_whole(data) and not is_sealed(unsealed(data)) and is_whole(unsealed(data)) is None
    assert seal(data) == data == seal(unsealed(data)) and len(data) == len(unsealed(data)) + 40


def test_any_changed_byte_breaks_it(data):
    for place in np.random.default_rng(0).integers(8, len(data) - 40, 40):
        bad = bytearray(data)
        bad[place] ^= 1
        with pytest.raises(ValueError, match="`source`: the bytes given: the LiteRT model is truncated or damaged .its checksum"):
            LiteModel(bytes(bad))


def test_a_file_without_a_seal_is_tried_in_a_process_of_its_own(data, monkeypatch):
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(LiteModel(unsealed(data))(x), LiteModel(data)(x))
    assert survives(unsealed(data)) and survives(b"no model at all")
    monkeypatch.setattr(lite_trust, "TRIAL", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert not survives(unsealed(data))
    with pytest.raises(ValueError, match="the LiteRT model is damaged .LiteRT crashes on it"):
        LiteModel(unsealed(data))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert survives(unsealed(data))
