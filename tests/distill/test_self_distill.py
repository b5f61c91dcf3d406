"""SelfDistill on real digits: the model that comes back, the exits' figures, the settings, and what is refused."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.distill.self_distill import SelfDistill
from kdfuse.fitting.stopping import Stopping
from kdfuse.models.convnet import convnet
from kdfuse.settings import replace
from kdfuse.train import Train, Trainer

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 8, 8, 1)
FAST = Train(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)
ADAM = {"optimizer": "adam", "learning_rate": 0.01}  # where a test asks how well a model learns


@pytest.fixture(scope="module")
def data():
    return Data(train=(X[:640], Y[:640]), validation=(X[800:1100], Y[800:1100]), test=(X[1100:], Y[1100:]), name="digits")


@pytest.fixture(scope="module")
def bare():
    """Nothing to measure on: for tests that look at the trained weights alone."""
    return Data(train=(X[:640], Y[:640]), name="digits")


def net(seed=0, activation=None, columns=10):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="block1"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(12, 3, padding="same", activation="relu", name="block2"),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dense(24, "relu", name="features"),
        keras.layers.Dense(columns, activation, name="head"),
    ]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


def alike(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


EXITS = SelfDistill(("block1", "block2"), training=FAST)


def test_the_exits_are_gone_from_what_comes_back(data):
    given = net(activation="softmax")
    before = given.get_weights()
    model, report = SelfDistill(["block1", "block2"], training=replace(FAST, {"epochs": 8, **ADAM}), control=True)(given, data)
    assert all(np.array_equal(a, b) for a, b in zip(before, given.get_weights(), strict=True))
    assert [layer.name for layer in model.layers] == [layer.name for layer in given.layers] and model.count_params() == given.count_params()
    assert (
        report["test/accuracy"] == pytest.approx((np.asarray(model(X[1100:])).argmax(-1) == Y[1100:]).mean())
        and report["test/accuracy"] > 0.85
    )
    assert report.metrics["validation/block2/accuracy"] == report.history["validation/block2/accuracy"][-1] > 0.5
    assert {"train/block1/accuracy", "train/soft_targets_loss", "train/features_loss", "train/label_loss"} <= set(report.history)
    assert [row["model"] for row in report.tables["models"]] == ["model", "control"] and "delta/control/test/log_loss" in report.metrics
    assert not alike(model, replace(FAST, {"epochs": 8, **ADAM}).apply(given, data).model)
    assert model.evaluate(X[1100:], Y[1100:], verbose=0, return_dict=True)["accuracy"] == pytest.approx(report["test/accuracy"])


CHANGES = {
    "exits": ("block1",),
    "temperature": 1.0,
    "alpha": 0.9,
    "feature_weight": 0.1,
    "training__seed": 5,
}


@pytest.fixture(scope="module")
def plain(bare):
    return EXITS.apply(net(), bare).model


def test_the_same_settings_give_the_same_model(plain, bare):
    assert alike(plain, EXITS.apply(net(), bare).model) and isinstance(EXITS, Trainer)


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_the_model(name, plain, bare):
    assert not alike(plain, replace(EXITS, {name: CHANGES[name]}).apply(net(), bare).model)


def test_an_interrupted_call_goes_on_where_it_was(data, monkeypatch):
    training = replace(FAST, {"optimizer": "momentum", "learning_rate": 0.05, "decay": "cosine", "checkpoint": 1})
    technique = SelfDistill(("block1",), training=training)
    undisturbed, whole = technique(net(), data)
    log = recording.Run.log

    def stop(run, values, step=None):
        log(run, values, step)
        if step == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recording.Run, "log", stop)
        technique(net(), data)
    resumed, report = technique(net(), data)
    assert any("Resumed at epoch" in note for note in report.notes) and alike(undisturbed, resumed) and report.history == whole.history


def test_the_exits_figures_are_of_the_epoch_whose_weights_come_back(data):
    # A curve that never improves: the first epoch is the best, and the second one the last.
    training = replace(FAST, {"epochs": 4, "stopping": Stopping("train/learning_rate", patience=1)})
    result = SelfDistill(("block1",), training=training).apply(net(), data)
    curve = result.history["validation/block1/accuracy"]
    assert len(curve) == 2 and result.metrics["validation/block1/accuracy"] == curve[0] != curve[-1]


def test_mixed_precision_sample_weights_nested_and_functional_models(data):
    weighted = Data(train=(X[:400], Y[:400], np.linspace(0, 2, 400, dtype="float32")), validation=(X[800:], Y[800:]))
    model = SelfDistill(("block1",), training=replace(FAST, {"precision": "mixed_float16"})).apply(net(), weighted).model
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"} and np.isfinite(np.asarray(model(X[:9]))).all()
    made = convnet(data, filters=(4, 8))
    name = next(layer.name for layer in made.layers if isinstance(layer, keras.layers.Conv2D))
    assert "validation/accuracy" in SelfDistill([name], training=FAST)(made, data)[1].metrics
    inputs = keras.Input((8, 8, 1))
    outer = keras.Model(inputs, keras.layers.Dense(10)(keras.Sequential(net().layers[:-1], name="trunk")(inputs)))
    result = SelfDistill(["trunk/block1"], training=FAST).apply(outer, data)
    assert "validation/trunk/block1/accuracy" in result.metrics


def test_binary_and_multilabel_heads():
    for y, columns in ((Y[:, None] > 4, 1), (np.stack([Y > 2, Y % 2 == 1, Y > 7], -1), 3)):
        made = Data(train=(X[:400], y[:400].astype("float32")), validation=(X[400:600], y[400:600].astype("float32")))
        for activation in ("sigmoid", None)[: 1 + (columns == 1)]:
            result = SelfDistill(("block1",), training=FAST).apply(net(activation=activation, columns=columns), made)
            assert result.metrics["validation/block1/accuracy"] > 0.5 and np.isfinite(result.history["train/soft_targets_loss"]).all()


REFUSED = {
    "no exits": ({"exits": ()}, TypeError, "`exits`: expected a list of different names"),
    "a name alone": ({"exits": "block1"}, TypeError, "`exits`: expected a list of different names"),
    "twice": ({"exits": ("block1", "block1")}, TypeError, "`exits`: expected a list of different names"),
    "unknown": ({"exits": ("blok1",)}, ValueError, "`exits`: .*Did you mean 'block1'"),
    "temperature": ({"temperature": 0.0}, ValueError, "`temperature`: expected a number above 0"),
    "alpha": ({"alpha": 1.5}, ValueError, "`alpha`: expected a number from 0 to 1"),
    "feature weight": ({"feature_weight": -1}, ValueError, "`feature_weight`: expected a number from 0"),
    "training": ({"training": 3}, TypeError, "`training`: expected kdfuse.Train"),
    "control": ({"control": 1}, ValueError, "`control`: expected True or False"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case, data, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *given, **extra: pytest.fail("training began"))
    settings, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        SelfDistill(**{"exits": ("block1",), "training": FAST, **settings})(net(), data)


def test_models_without_one_head_of_classes_are_refused(data):
    values = Data(train=(X[:100], Y[:100, None] / 9.0))
    with pytest.raises(ValueError, match="`model`: expected a head of classes"):
        SelfDistill(("block1",))(net(columns=1), values)
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Flatten(name="flat")(inputs)
    both = keras.Model(inputs, [keras.layers.Dense(10)(hidden), keras.layers.Dense(10)(hidden)])
    with pytest.raises(ValueError, match="`model`: expected one output"):
        SelfDistill(("flat",))(both, Data(train=(X[:100], (Y[:100], Y[:100]))))
    shallow = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(name="flat"), keras.layers.Dense(10)])
    with pytest.raises(ValueError, match="`model`: "):
        SelfDistill(("flat",))(shallow, data)


def test_features_of_members_that_share_a_batch_are_refused(data):
    from kdfuse.ensemble.parallel.batch_ensemble import BatchEnsemble

    together, _ = BatchEnsemble(2, training=Train(epochs=1))(convnet(data, filters=(4, 4), units=()), data)
    with pytest.raises(ValueError, match="`exits`: expected features with a row for each row of the input. Received: 4 rows for 2"):
        SelfDistill(("conv_1",))(together, data)
