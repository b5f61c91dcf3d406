import pickle

import keras
import numpy as np
import pytest

from kdfuse.fitting.guards import EpochSeeds, NonFiniteLoss, Progress, StopAtNaN, seed_generators


def dropout_model():
    inputs = keras.Input((8,))
    inner = keras.Sequential([keras.layers.Dense(4), keras.layers.Dropout(0.5)], name="inner")
    return keras.Model(inputs, keras.layers.Dropout(0.5)(inner(inputs)))


def test_every_generator_is_found_once_also_in_nested_models():
    assert len(seed_generators(dropout_model())) == 2


def test_what_an_epoch_draws_depends_on_seed_and_epoch_alone():
    model, x = dropout_model(), np.ones((4, 8), "float32")

    def draw(seed, epoch):
        callback = EpochSeeds(seed)
        callback.set_model(model)
        callback.on_epoch_begin(epoch)
        return keras.ops.convert_to_numpy(model(x, training=True))

    first = draw(0, 3)
    for _ in range(5):
        model(x, training=True)
    np.testing.assert_array_equal(first, draw(0, 3))
    assert (draw(0, 4) != first).any() and (draw(1, 3) != first).any()


def test_nan_stops_says_where_and_keeps_the_last_good_weights(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = np.ones((64, 2), "float32"), np.ones((64, 1), "float32")
    guard = StopAtNaN(model, tmp_path / "good.keras", every=4)
    model.fit(x, y, batch_size=1, epochs=1, shuffle=False, verbose=0, callbacks=[guard])
    good = model.get_weights()
    y[10] = np.nan
    with pytest.raises(NonFiniteLoss, match="epoch 0, between steps 9 and 12") as caught:
        model.fit(x, y, batch_size=1, epochs=2, shuffle=False, verbose=0, callbacks=[guard])
    for ours, theirs in zip(model.get_weights(), good, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(keras.models.load_model(caught.value.path).get_weights(), good, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.epoch, again.step, again.path) == (0, 12, tmp_path / "good.keras")


def test_progress_tells_epoch_and_loss_on_one_line(capsys):
    progress = Progress("student", 4, 10)
    progress.on_epoch_begin(0)
    progress.on_epoch_end(0, {"loss": 0.5, "val_accuracy": 0.75})
    shown = capsys.readouterr().err
    assert "student" in shown and "epoch 1/4" in shown and "loss 0.5000" in shown and "val_accuracy 0.7500" in shown and "\n" not in shown
