"""The mask of several tensors, and the layers of the room that pass it on."""

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.ensemble.calibrate import Calibrate
from kdfuse.ensemble.masks import common_mask, is_masked
from kdfuse.ensemble.members import take
from kdfuse.ensemble.mixed.gate import Gate
from kdfuse.ensemble.predictions import predictions
from kdfuse.ensemble.serial.link import Stage, linked
from kdfuse.train import Train

L = keras.layers
RNG = np.random.default_rng(0)
WORDS = RNG.integers(1, 9, (60, 6)).astype("int32")
WORDS[np.arange(6)[None] >= RNG.integers(2, 7, (60, 1))] = 0
DATA = Data(train=(WORDS, WORDS % 3), validation=(WORDS, WORDS % 3), test=(WORDS, WORDS % 3))


def tagger(seed):
    keras.utils.set_random_seed(seed)
    given = keras.Input((6,), dtype="int32")
    return keras.Model(given, L.Dense(3)(L.Embedding(9, 4, mask_zero=True)(given)))


def gate(data):
    return keras.Sequential([keras.Input((6,)), L.Dense(data.classes)])


def test_all_masks_count_and_none_is_none():
    one, other = np.array([[True, True, False]]), np.array([[True, False, True]])
    np.testing.assert_array_equal(common_mask([one, None, other]), one & other)
    np.testing.assert_array_equal(common_mask(one), one)
    assert common_mask([None, None]) is None and common_mask(None) is None
    assert is_masked({"a": tagger(0)(WORDS)}) and not is_masked([np.ones(3), None])


def test_masked_steps_are_no_rows_to_fit_on():
    (found,) = predictions(take([tagger(0), tagger(1)], DATA), DATA, DATA.validation)
    np.testing.assert_array_equal(found.weights, WORDS != 0)


@pytest.mark.filterwarnings("error:Layer .* was passed an input with a mask")
def test_a_calibrated_tagger_is_judged_by_the_steps_that_are_there():
    made, report = Calibrate()(tagger(0), DATA)
    ours, before = report.rows()
    assert ours["test/accuracy"] == before["test/accuracy"] and ours["test/log_loss"] <= before["test/log_loss"] + 1e-6
    np.testing.assert_array_equal(made(WORDS)._keras_mask, WORDS != 0)


@pytest.mark.filterwarnings("error:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("frozen", [False, True])
def test_a_chain_of_taggers_keeps_the_mask(frozen):
    made = linked(Stage(tagger(0), DATA), Stage(tagger(1), DATA), 2, frozen)
    np.testing.assert_array_equal(made(WORDS)._keras_mask, WORDS != 0)


@pytest.mark.filterwarnings("error:Layer .* was passed an input with a mask")
def test_a_gate_over_taggers_learns_from_the_steps_that_are_there():
    given = [tagger(0), tagger(1)]
    made, report = Gate(gate=gate, balance=0.0, training=Train(epochs=1, batch_size=60, learning_rate=1e-9))(given, DATA)
    np.testing.assert_array_equal(made(WORDS)._keras_mask, WORDS != 0)
    # The loss of the only step, taken before it: the mean over the rows' steps that are not masked.
    assert report.history["train/loss"][0] == pytest.approx(report["test/log_loss"], rel=1e-4)
