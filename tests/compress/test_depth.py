import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.compress.depth import ShrinkDepth
from kdfuse.data import Data
from kdfuse.graph.blocks import without_blocks
from kdfuse.settings import replace
from kdfuse.train import Train

layers = keras.layers
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
FAST = Train(epochs=1, batch_size=32, optimizer="sgd", learning_rate=0.1, steps_per_execution=1, checkpoint=0)


@pytest.fixture(scope="module")
def data():
    return Data(train=(X[:640], Y[:640]), validation=(X[640:900], Y[640:900]), name="digits")


def net():
    keras.utils.set_random_seed(0)
    i = keras.Input((64,))
    x = layers.Dense(16, "relu", name="stem")(i)
    for k, scale in enumerate((1.0, 0.01, 0.1), 1):
        y = layers.Dense(16, kernel_initializer=keras.initializers.RandomNormal(stddev=scale, seed=k), name=f"dense_{k}")(x)
        x = layers.Add(name=f"add_{k}")([x, layers.BatchNormalization(name=f"norm_{k}")(y) if k == 1 else y])
    return keras.Model(i, layers.Dense(10, name="head")(x))


def changes(model, names, rows):
    whole, less = np.asarray(model(rows)), np.asarray(without_blocks(model, names)(rows))
    return ((less - whole) ** 2).sum() / (whole**2).sum()


def test_the_least_important_go_one_after_the_other(data):
    model = net()
    before = model.get_weights()
    small, report = ShrinkDepth(2, training=FAST, rows=640, control=True)(model, data)
    assert [row["block"] for row in report.tables["depth"]] == ["add_2", "add_3"]
    expected = [changes(model, ["add_2"], X[:640]), changes(model, ["add_2", "add_3"], X[:640])]
    np.testing.assert_allclose([row["change"] for row in report.tables["depth"]], expected, rtol=1e-3)
    assert [layer.name for layer in small.layers[1:]] == ["stem", "dense_1", "norm_1", "add_1", "head"]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert [row["model"] for row in report.tables["models"]] == ["model", "before", "control"]
    assert small.evaluate(X[640:900], Y[640:900], verbose=0, return_dict=True)["accuracy"] == pytest.approx(report["accuracy"])


CHANGES = {"remove": 2, "remove by name": ("add_1",), "training": FAST}


def test_each_setting_changes_the_model(data):
    usual = ShrinkDepth(training=None).apply(net(), data)
    for name, value in CHANGES.items():
        made = replace(ShrinkDepth(training=None), {name.split()[0]: value}).apply(net(), data).model
        assert [w.shape for w in made.get_weights()] != [w.shape for w in usual.model.get_weights()] or not all(
            np.array_equal(a, b) for a, b in zip(made.get_weights(), usual.model.get_weights(), strict=True)
        ), name
    for settings in ({"rows": 20}, {"rows": 20, "seed": 1}):
        assert ShrinkDepth(training=None, **settings).apply(net(), data).tables["depth"] != usual.tables["depth"]


def test_without_training_the_statistics_are_measured_again(data):
    result = ShrinkDepth(("add_2",), training=None).apply(net(), data)
    assert "The statistics of BatchNorm layers were measured again." in result.notes
    assert result.model.get_layer("norm_1").moving_mean.numpy().any()


def flat():
    i = keras.Input((64,))
    return keras.Model(i, layers.Dense(10)(layers.Dense(12)(i)))


REFUSED = {
    "none": ({"remove": 0}, net, ValueError, "`remove`: expected an integer"),
    "too many": ({"remove": 9}, net, ValueError, "`remove`: expected at most 3"),
    "a name alone": ({"remove": "add_1"}, net, TypeError, "`remove`: expected a number of blocks or a list"),
    "no names": ({"remove": ()}, net, TypeError, "`remove`: expected a number of blocks or a list"),
    "unknown": ({"remove": ("ad_1",)}, net, ValueError, "no block 'ad_1'. Did you mean 'add_1'"),
    "training": ({"training": 3}, net, TypeError, "`training`: expected kdfuse.Train"),
    "rows": ({"rows": 0}, net, ValueError, "`rows`: expected an integer"),
    "control": ({"control": 1}, net, ValueError, "`control`: expected True or False"),
    "control without training": ({"control": True, "training": None}, net, ValueError, "`control`: expected a `training`"),
    "no block": ({}, flat, ValueError, "has no block whose output has its input's shape"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case, data, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *given, **extra: pytest.fail("training began"))
    settings, build, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        ShrinkDepth(**settings)(build(), data)


def test_a_block_inside_one_that_went_does_not_count(data):
    i = keras.Input((64,))
    inner_in = layers.Dense(64, "relu", name="one")(i)
    inner = layers.Add(name="inner")([inner_in, layers.Dense(64, "relu", name="two")(inner_in)])
    outer = layers.Add(name="outer")([i, inner])
    last = layers.Add(name="third")([outer, layers.Dense(64, name="three")(outer)])
    made, report = ShrinkDepth(2, training=None)(keras.Model(i, layers.Dense(10)(last)), data)
    gone = [set(row["layers"].split(", ")) for row in report.tables["depth"]]
    assert len(gone) == 2 and not gone[1] <= gone[0]
    assert not {layer.name for layer in made.layers} & gone[1]
