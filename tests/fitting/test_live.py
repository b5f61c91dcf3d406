import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse import recording
from kdfuse.fitting.live import Live, keep, taken
from kdfuse.fitting.pause import PauseAt


def test_nothing_is_kept_outside_a_block():
    model = keras.Sequential()
    keep(model, model)
    assert taken(model) is None


def test_what_is_kept_comes_back_for_the_same_model_only():
    live, model = Live(), keras.Sequential()
    with live.going():
        assert taken(model) is None
        keep(model, model)
        assert taken(model) is live and live.fitted is model and live.begun
        assert taken(keras.Sequential()) is None
    assert taken(model) is None


@pytest.fixture(scope="module")
def data():
    return kf.datasets.load("digits")


def paused(training, data, live):
    student = training.private(kf.models.mlp(data, units=6, dropout=0.3), data)
    with live.going():
        training.fit(student, data, [PauseAt(1)])
    return student


def test_a_paused_fit_goes_on_with_the_same_traced_step(data):
    training, live = kf.Train(epochs=3, batch_size=64), Live()
    with recording.run("whole", "Train", {}, key="whole"):
        whole = training.private(kf.models.mlp(data, units=6, dropout=0.3), data)
        training.fit(whole, data)
    with recording.run("paused", "Train", {}, key="paused") as run:
        student = paused(training, data, live)
        step = live.fitted.train_function
        with live.going(), recording.within(run):
            run.counts.clear()
            training.fit(student, data)
        assert live.fitted.train_function is step
    for mine, theirs in zip(student.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_without_its_checkpoints_it_does_not_go_on(data):
    training, live = kf.Train(epochs=3, batch_size=64, checkpoint=0), Live()
    student = paused(training, data, live)
    assert live.fitted is None  # nothing could be gone on from: the next fit compiles anew
    live.model, live.fitted, live.begun = student, student, True
    with live.going(), pytest.raises(RuntimeError, match="Run it again"):
        training.fit(student, data)
