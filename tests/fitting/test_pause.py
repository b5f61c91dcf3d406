import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse import recording
from kdfuse.fitting.pause import PauseAt, pauses_at


def test_the_first_pause_counts():
    assert pauses_at([keras.callbacks.Callback()], 9) == 9
    assert pauses_at([PauseAt(7), PauseAt(3)], 9) == 3
    assert pauses_at([PauseAt(12)], 9) == 9


@pytest.fixture(scope="module")
def data():
    return kf.datasets.load("digits", labels=128)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_pause_is_at_its_epoch_whatever_was_trained_before(data, kept, tmp_path, monkeypatch):
    """What goes on from no, an equal or a later checkpoint has the same weights."""
    monkeypatch.setenv("KDFUSE_HOME", str(tmp_path))
    training, found = kf.Train(epochs=4, batch_size=64), []
    for before in (None, kept):
        with recording.run(f"after {before}", "Train", {}, key=f"after {before}") as run:
            for until in (before, 2):
                if until is not None:
                    run.counts.clear()
                    student = training.private(kf.models.mlp(data, units=6, dropout=0.3), data)
                    fitted = training.fit(student, data, [PauseAt(until)])
        found.append((student.get_weights(), fitted.history))
    assert len(found[1][1]["train/loss"]) == 2
    np.testing.assert_allclose(found[0][1]["train/loss"], found[1][1]["train/loss"], rtol=1e-5)
    for mine, theirs in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
