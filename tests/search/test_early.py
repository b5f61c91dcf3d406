import keras
import pytest

from kdfuse.search.early import StopBelow, bar


def after(callback, values, start=0):
    """How many epochs a callback lets go by."""
    callback.set_model(keras.Sequential())
    callback.model.stop_training = False
    for epoch, value in enumerate(values, start):
        callback.on_epoch_end(epoch, {"val_accuracy": value, "val_loss": 1 - value})
        if callback.model.stop_training:
            return epoch + 1
    return None


def test_a_trial_stops_below_the_median():
    medians = [0.2, 0.4, 0.6, 0.7, 0.8]
    assert after(StopBelow(("validation/accuracy", medians), 1), [0.3, 0.3, 0.3, 0.3, 0.3]) == 2
    assert after(StopBelow(("validation/accuracy", medians), 3), [0.3, 0.3, 0.3, 0.3, 0.3]) == 3
    assert after(StopBelow(("validation/accuracy", medians), 1), [0.65, 0.3, 0.3, 0.3, 0.3]) == 4
    assert after(StopBelow(("validation/accuracy", medians), 1), [0.9] * 5) is None


def test_at_the_last_epoch_nothing_stops():
    assert after(StopBelow(("validation/accuracy", [0.5, 0.5]), 2), [0.1, 0.1]) is None


def test_less_loss_is_better_and_other_curves_are_left_alone():
    assert after(StopBelow(("validation/loss", [0.5, 0.4, 0.3]), 1), [0.4, 0.4, 0.4]) == 1
    assert after(StopBelow(("train/other", [0.5, 0.4, 0.3]), 1), [0.4, 0.4, 0.4]) is None


def test_the_best_so_far_survives_an_interruption():
    one, other = StopBelow(("validation/accuracy", [0.5] * 5), 1), StopBelow(("validation/accuracy", [0.5] * 5), 1)
    after(one, [0.9])
    other.set_state(*one.get_state())
    assert after(other, [0.1, 0.1], start=1) is None


def test_the_bar_is_the_median_of_the_best_so_far():
    histories = [{"validation/accuracy": [0.1, 0.5, 0.4]}, {"validation/accuracy": [0.3, 0.2, 0.9]}, {"validation/accuracy": [0.2]}]
    name, medians = bar(histories, 2)
    assert name == "validation/accuracy"
    assert medians == pytest.approx([0.2, 0.4, 0.7])
    assert bar(histories, 3) is None and bar([], 1) is None
    assert bar([{"train/loss": [3.0, 4.0]}], 1) == ("train/loss", [3.0, 3.0])
