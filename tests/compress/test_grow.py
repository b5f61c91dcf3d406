import keras
import numpy as np
import pytest

import kdfuse as kf
from kdfuse.compress.grow import Grow
from kdfuse.settings import replace

layers = keras.layers
FAST = kf.Train(epochs=1, batch_size=64, learning_rate=1e-3, checkpoint=0)


@pytest.fixture(scope="module")
def data():
    return kf.datasets.load("digits", labels=400)


@pytest.fixture(scope="module")
def trained(data):
    return kf.Train(epochs=6, batch_size=32, learning_rate=3e-3).apply(kf.models.mlp(data, units=(24, 16)), data).model


def outputs(model, data):
    return [np.asarray(one) for one in keras.tree.flatten(model(data.test.head(32)[0], training=False))]


def alike(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return len(one.weights) == len(other.weights) and all(a.shape == b.shape and np.array_equal(a, b) for a, b in pairs)


def two_outputs(data):
    i = keras.Input(data.input_shape)
    x = layers.Dense(16, activation="relu", name="shared")(layers.Flatten()(i))
    return keras.Model(i, {"digit": layers.Dense(10, name="digit")(x), "even": layers.Dense(2, name="even")(x)})


def two(data):
    def targets(split):
        x, y, _ = split.head(len(split))
        return x, {"digit": np.asarray(y), "even": np.asarray(y) % 2}

    return kf.Data(**{name: targets(data.split(name)) for name in ("train", "validation", "test")})


KINDS = {
    "mlp": lambda data: (kf.models.mlp(data, units=(24, 16)), data),
    "convnet": lambda data: (kf.models.convnet(data, batch_norm=True, skip=True), data),
    "resnet": lambda data: (kf.models.resnet(data, filters=(8, 8, 16), blocks=1), data),
    "outputs": lambda data: (two_outputs(data), two(data)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers_", [0, 1])
def test_without_noise_the_larger_model_computes_the_same(kind, layers_, data):
    model, data = KINDS[kind](data)
    model = replace(FAST, {"loss": "auto"}).apply(model, data).model  # statistics that are not 0 and 1
    large = Grow(1.5, layers=layers_, noise=0, training=None).apply(model, data).model
    assert large.count_params() > 1.4 * model.count_params()
    assert (len(large.layers) > len(model.layers)) == bool(layers_)
    for a, b in zip(outputs(model, data), outputs(large, data), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(a).max()))


def test_a_larger_model_and_an_honest_report(trained, data, tmp_path):
    before = trained.get_weights()
    large, report = Grow(2.0, layers=1, training=replace(FAST, {"epochs": 4}), control=True, protect=["dense_2"])(trained, data)
    rows = {row["layer"]: (row["units"], row["grown"], row["protected"]) for row in report.tables["grow"]}
    assert rows == {
        "dense_1": (24, 48, ""),
        "dense_1_deeper_1": (0, 48, ""),
        "dense_2": (16, 16, "named in `protect`"),
        "logits": (10, 10, "an output of the model"),
    }
    assert "All or some units of 'dense_2' stay as many: named in `protect`." in report.notes
    assert [row["model"] for row in report.tables["models"]] == ["model", "before", "control"]
    assert report["test/accuracy"] >= report.tables["models"][1]["test/accuracy"] > report.tables["models"][2]["test/accuracy"]
    assert report.metrics["delta/before/size/parameters"] == large.count_params() - trained.count_params() > 0
    assert len(report.history["train/loss"]) == 4 and "delta/control/test/accuracy" in report.metrics
    assert all(np.array_equal(a, b) for a, b in zip(before, trained.get_weights(), strict=True))
    large.save(tmp_path / "large.keras")
    again = keras.models.load_model(tmp_path / "large.keras")
    np.testing.assert_allclose(outputs(again, data)[0], outputs(large, data)[0], atol=1e-6)


def test_noise_changes_the_outputs_a_little(trained, data):
    exact, little, more = (outputs(Grow(noise=noise, training=None).apply(trained, data).model, data)[0] for noise in (0, 1e-2, 1e-1))
    assert 1e-4 < np.abs(little - exact).max() < np.abs(more - exact).max() < 0.5 * np.abs(exact).max()


CHANGES = {"width": 2.0, "layers": 1, "noise": 0.0, "protect": ("dense_1",), "training": FAST, "seed": 1}


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_the_model(name, trained, data):
    usual = Grow(training=None)
    assert alike(usual.apply(trained, data).model, usual.apply(trained, data).model)
    made = replace(usual, {name: CHANGES[name]}).apply(trained, data).model
    assert not alike(made, usual.apply(trained, data).model)


def test_deeper_alone_and_what_has_no_relu_is_told(data):
    i = keras.Input(data.input_shape)
    x = layers.Dense(8, "tanh", name="other")(layers.Dense(12, "relu", name="host")(layers.Flatten()(i)))
    result = Grow(1, layers=2, training=None).apply(keras.Model(i, layers.Dense(10)(x)), data)
    assert [row["grown"] for row in result.tables["grow"]] == [12, 12, 12, 8, 10]
    assert result.notes == ["No layer goes behind 'other': no ReLU follows, and what others give would not stay the same."]


def test_in_a_chain_under_a_teacher_and_in_a_search(trained, data):
    chain = kf.Chain([Grow(training=kf.Distill(trained, training=FAST)), kf.Prune(0.5, training=FAST), Grow(2, layers=1, training=None)])
    large, report = chain(trained, data)
    assert large.count_params() > trained.count_params() and len(report.tables["steps"]) == 3
    space = {"width": kf.Float(1.1, 2), "training__learning_rate": kf.Float(1e-4, 1e-2, log=True)}
    best, report = kf.RandomSearch(Grow(training=FAST), space, n_trials=3)(trained, data)
    assert best.count_params() > trained.count_params() and len(report.tables["trials"]) == 3
    assert all("error" not in row or not row["error"] for row in report.tables["trials"])


def test_mixed_precision_compiled_and_unbuilt_models(data):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = kf.models.mlp(data, units=(16,))
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.Adam(0.003), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    large = Grow(1.5, layers=1, noise=0, training=FAST).apply(model, data).model
    assert {one.dtype_policy.name for one in large.layers if one.weights} == {one.dtype_policy.name for one in model.layers if one.weights}
    assert type(large.optimizer) is keras.optimizers.Adam and float(large.optimizer.learning_rate) == pytest.approx(0.003)
    exact = Grow(1.5, layers=1, noise=0, training=None).apply(model, data).model
    np.testing.assert_allclose(outputs(exact, data)[0].astype("float32"), outputs(model, data)[0].astype("float32"), atol=0.05)
    stack = keras.Sequential([layers.Flatten(), layers.Dense(12, "relu", name="hidden"), layers.Dense(10)])
    assert Grow(training=FAST).apply(stack, data).model.get_layer("hidden").units == 18 and not stack.built


class Own(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.dense = layers.Dense(10)

    def call(self, x):
        return self.dense(keras.ops.reshape(x, (-1, 64)))


def net():
    i = keras.Input((8, 8, 1))
    return keras.Model(i, layers.Dense(10)(layers.Dense(8, "tanh", name="hidden")(layers.Flatten()(i))))


def stuck():
    i = keras.Input((8, 8, 1))
    return keras.Model(i, layers.Dense(10)(layers.LayerNormalization()(layers.Dense(8, name="only")(layers.Flatten()(i)))))


REFUSED = {
    "narrower": ({"width": 0.5}, net, ValueError, "`width`: expected a number of at least 1. Received: width=0.5"),
    "infinite": ({"width": float("inf")}, net, ValueError, "`width`: expected a number"),
    "nothing to do": ({"width": 1}, net, ValueError, "grow nothing"),
    "layers": ({"layers": -1}, net, ValueError, "`layers`: expected an integer of at least 0"),
    "half a layer": ({"layers": 0.5}, net, ValueError, "`layers`: expected an integer"),
    "noise": ({"noise": -0.1}, net, ValueError, "`noise`: expected a number of at least 0"),
    "seed": ({"seed": -1}, net, ValueError, "`seed`: expected an integer"),
    "training": ({"training": 3}, net, TypeError, "`training`: expected kdfuse.Train"),
    "protect alone": ({"protect": "hidden"}, net, TypeError, "`protect`: expected a list"),
    "protect unknown": ({"protect": ["hiden"]}, net, ValueError, "`protect`: no layer 'hiden'.*Did you mean 'hidden'"),
    "control": ({"control": 1}, net, ValueError, "`control`: expected True or False"),
    "control without training": ({"control": True, "training": None}, net, ValueError, "`control`: expected a `training`"),
    "no relu": ({"layers": 1}, net, ValueError, "`layers`: expected a model with hidden .*No layer goes behind 'hidden'"),
    "no graph": ({}, Own, ValueError, "has no graph of layers to follow"),
    "nothing to grow": ({}, stuck, ValueError, "no layer that may grow. .*'only'.*its statistics would change"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case, data, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *given, **extra: pytest.fail("training began"))
    settings, build, error, message = REFUSED[case]
    model = build()
    model(np.zeros((1, 8, 8, 1), "float32"))
    with pytest.raises(error, match=message):
        Grow(**settings)(model, data)
