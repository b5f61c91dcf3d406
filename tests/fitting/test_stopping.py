from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kdfuse.fitting.decay import Plateau
from kdfuse.fitting.history import History
from kdfuse.fitting.stopping import EarlyStop, PlateauDecay, Stopping, higher_is_better


def model_with(value):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    model.set_weights([np.array([[value]], "float32")])
    return model


def follow(callback, history, model, name, curve):
    callback.set_model(model)
    model.stop_training = False
    for epoch, value in enumerate(curve):
        history.values.setdefault(name, []).append(value)
        model.set_weights([np.array([[float(epoch)]], "float32")])
        callback.on_epoch_end(epoch)
        if model.stop_training:
            return epoch
    return None


def test_stops_after_patience_and_brings_the_best_weights_back():
    history, model = History(True), model_with(0.0)
    stop = EarlyStop(Stopping(patience=2), history, model)
    assert follow(stop, history, model, "validation/loss", [3.0, 1.0, 1.5, 1.2, 0.1]) == 3
    stop.on_train_end()
    assert model.get_weights()[0].item() == 1.0


def test_min_delta_counts_small_gains_as_none_and_restore_can_be_off():
    history, model = History(True), model_with(0.0)
    stop = EarlyStop(Stopping(patience=2, min_delta=0.5, restore_best=False), history, model)
    assert follow(stop, history, model, "validation/loss", [3.0, 2.9, 2.8, 0.1]) == 2
    stop.on_train_end()
    assert model.get_weights()[0].item() == 2.0


def test_accuracy_is_better_when_it_rises():
    assert higher_is_better("validation/accuracy") and not higher_is_better("train/soft_targets_loss")
    metrics = keras.metrics
    for metric in (metrics.SparseCategoricalCrossentropy, metrics.KLDivergence, metrics.MeanAbsolutePercentageError, metrics.Hinge,
                   metrics.Poisson, metrics.LogCoshError, metrics.FalsePositives, metrics.RootMeanSquaredError):  # fmt: skip
        assert not higher_is_better(f"validation/{metric().name}")
    assert higher_is_better("validation/true_positives") and higher_is_better("validation/auc")
    history, model = History(True), model_with(0.0)
    stop = EarlyStop(Stopping(monitor="validation/accuracy", patience=1), history, model)
    assert follow(stop, history, model, "validation/accuracy", [0.1, 0.2, 0.15]) == 2


def test_state_goes_on_where_it_was():
    history, model = History(True), model_with(0.0)
    first = EarlyStop(Stopping(patience=3), history, model)
    follow(first, history, model, "validation/loss", [1.0, 2.0, 2.0])
    meta, arrays = first.get_state()
    second = EarlyStop(Stopping(patience=3), history, model)
    second.set_state(meta, arrays)
    assert second.best.waited == 2 and follow(second, history, model, "validation/loss", [2.0]) == 0


def test_plateau_lowers_the_rate_to_its_floor():
    history, model = History(True), model_with(0.0)
    model.optimizer.learning_rate = 1.0
    decay = PlateauDecay(Plateau(rate=0.1, patience=1, floor=0.05), history, 1.0)
    follow(decay, history, model, "validation/loss", [1.0, 1.0])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)
    follow(decay, history, model, "validation/loss", [1.0])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)


def test_a_curve_that_does_not_exist_raises_and_names_the_near_one():
    history = History(True)
    history.values["validation/loss"] = [1.0]
    stop = EarlyStop(Stopping(monitor="validation/los"), history, model_with(0.0))
    stop.set_model(SimpleNamespace())
    with pytest.raises(ValueError, match="Did you mean 'validation/loss'"):
        stop.on_epoch_end(0)


def test_wrong_settings_raise():
    for wrong in (lambda: Stopping(patience=0), lambda: Stopping(min_delta=-1.0)):
        with pytest.raises(ValueError, match="Received"):
            wrong()
