"""Several data sets as one."""

import numpy as np
import tensorflow as tf

from kdfuse.data import Data
from kdfuse.ensemble.serial.several import several

X, Y = np.ones((9, 2), "float32"), np.arange(9) % 3


def test_it_is_the_last_one_and_knows_the_others():
    one, two = Data(train=(X, Y), name="one"), Data(train=(2 * X, Y), validation=(X, Y), name="two")
    both = several([one, two])
    assert isinstance(both, Data) and both.name == "two" and both.classes == 3 and both.stages == (one, two)
    assert both.validation is two.validation and both.example(1).tolist() == [[2.0, 2.0]]
    assert len({both.fingerprint, several([two, one]).fingerprint, two.fingerprint}) == 3
    assert both.fingerprint == several([one, two]).fingerprint


def test_with_a_stream_there_is_no_fingerprint():
    stream = Data(train=tf.data.Dataset.from_tensor_slices((X, Y)).batch(3))
    assert several([stream, Data(train=(X, Y))]).fingerprint is None
