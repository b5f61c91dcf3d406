import keras
import numpy as np
import pytest

from kdfuse.fitting.execution import rows_measured, steps_together
from kdfuse.splits import ArraySplit
from kdfuse.streams import StreamSplit


class Epochs(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        pass


class Steps(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


@pytest.mark.parametrize(("steps", "expected"), [(1, 1), (10, 10), (34, 17), (469, 7), (64, 32), (47, 1), (None, 1)])
def test_auto_is_the_largest_divisor_up_to_32(steps, expected):
    assert steps_together("auto", steps, [Epochs()]) == expected


def test_a_callback_that_hears_of_every_step_hears_of_every_step():
    assert steps_together("auto", 64, [Epochs(), Steps()]) == 1
    assert steps_together(4, 64, [Steps()]) == 4
    assert steps_together(np.int64(4), 64, []) == 4


def test_a_number_that_does_not_divide_the_epoch_raises():
    for asked, steps in ((5, 64), (2, None)):
        with pytest.raises(ValueError, match="steps_per_execution"):
            steps_together(asked, steps, [])


def test_small_rows_are_measured_many_at_a_time():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    small, large = (ArraySplit(np.zeros((2, size), "float32"), np.zeros(2)) for size in (4, 2**15))
    assert rows_measured(model, small, 32) == 256 and rows_measured(model, small, 1000) == 1000
    assert rows_measured(model, small, 32, means=False) == 32
    assert rows_measured(model, large, 8) == 32 and rows_measured(model, large, 64) == 64
    fixed = keras.Sequential([keras.Input(batch_shape=(16, 4)), keras.layers.Dense(1)])
    assert rows_measured(fixed, small, 16) == 16
    assert rows_measured(model, StreamSplit(small.dataset(2)), 32) == 32
