import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse.compress.criteria.taylor import Taylor
from kdfuse.compress.shrink import Shrink
from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.graph.macs import count_macs
from kdfuse.settings import replace
from kdfuse.technique import Chain
from kdfuse.train import Train

layers = keras.layers
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 8, 8, 1)
FAST = Train(epochs=1, batch_size=32, optimizer="sgd", learning_rate=0.1, steps_per_execution=1, checkpoint=0)


@pytest.fixture(scope="module")
def data():
    return Data(train=(X[:640], Y[:640]), validation=(X[640:900], Y[640:900]), test=(X[900:1300], Y[900:1300]), name="digits")


def net(seed=0):
    keras.utils.set_random_seed(seed)
    i = keras.Input((8, 8, 1))
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, padding="same", name="conv")(i)))
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="branch")(x)
    x = layers.Flatten()(layers.MaxPooling2D()(layers.Add()([x, y])))
    return keras.Model(i, layers.Dense(10, name="head")(layers.Dense(24, "relu", name="dense")(x)), name="net")


@pytest.fixture(scope="module")
def trained(data):
    return replace(FAST, {"epochs": 6}).apply(net(), data).model


@pytest.fixture(scope="module")
def bare():
    """Nothing to measure on: for tests that look at the model alone."""
    return Data(train=(X[:640], Y[:640]), name="digits")


@pytest.fixture(scope="module")
def plain(trained, bare):
    return Shrink(training=None).apply(trained, bare).model


def units(model):
    return [model.get_layer(name).kernel.shape[-1] for name in ("conv", "branch", "dense", "head")]


def alike(one, other):
    return all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_smaller_model_and_an_honest_report(trained, data, tmp_path):
    before = trained.get_weights()
    small, report = Shrink(training=FAST, control=True, protect=["dense"])(trained, data)
    assert units(small) == [4, 4, 24, 10] and units(trained) == [8, 8, 24, 10]
    assert all(np.array_equal(a, b) for a, b in zip(before, trained.get_weights(), strict=True)) and trained.optimizer is not None
    assert [layer.name for layer in small.layers] == [layer.name for layer in trained.layers] and report["test/accuracy"] > 0.75
    assert [row["model"] for row in report.tables["models"]] == ["model", "before", "control"]
    rows = {row["layer"]: (row["units"], row["kept"], row["protected"]) for row in report.tables["shrink"]}
    assert rows == {
        "conv": (8, 4, ""),
        "branch": (8, 4, ""),
        "dense": (24, 24, "named in `protect`"),
        "head": (10, 10, "an output of the model"),
    }
    assert "All or some units of 'dense' stay: named in `protect`." in report.notes
    assert report.metrics["shrink/parameters"] == small.count_params() / trained.count_params()
    assert report.metrics["shrink/macs"] == count_macs(small) / count_macs(trained) and report.metrics["shrink/units"] == 42 / 50
    assert len(report.history["train/loss"]) == 1 and "delta/control/test/accuracy" in report.metrics
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(again(X[:9]), small(X[:9]), atol=1e-6)
    assert again.evaluate(X[900:1300], Y[900:1300], verbose=0, return_dict=True)["accuracy"] == pytest.approx(report["test/accuracy"])


CHANGES = {
    "keep": 0.25,
    "criterion": "random",
    "training": Train(epochs=1, batch_size=320, checkpoint=0),
    "scope": "global",
    "round_to": 8,
    "protect": ("conv",),
    "reconstruct": True,
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_the_model(name, trained, plain, bare):
    made = replace(Shrink(training=None), {name: CHANGES[name]}).apply(trained, bare).model
    assert units(made) != units(plain) or not alike(made, plain)


def test_the_same_settings_give_the_same_model(trained, plain, bare):
    assert alike(plain, Shrink(training=None).apply(trained, bare).model)


def test_targets(trained, data):
    for name, target, limit in (("parameters", 3000, 3000), ("parameters", 0.3, 0.3 * trained.count_params())):
        small = Shrink(training=None, **{name: target}).apply(trained, data).model
        assert 0.8 * limit < small.count_params() <= limit
    small = Shrink(macs=0.4, training=None).apply(trained, data).model
    assert 0.25 < count_macs(small) / count_macs(trained) <= 0.4


def test_a_target_in_steps_and_latency(trained, bare, monkeypatch):
    import kdfuse.compress.shrink as module

    result = Shrink(parameters=0.3, steps=2, training=FAST).apply(trained, bare)
    assert result.model.count_params() <= 0.3 * trained.count_params() and len(result.history["train/loss"]) == 2
    monkeypatch.setattr(module, "latency", lambda model, example: {"latency/p50_ms": count_macs(model) / 1e4})
    small = Shrink(latency_ms=count_macs(trained) / 4e4, training=None).apply(trained, bare).model
    assert count_macs(small) <= count_macs(trained) / 4


def test_steps_end_where_one_step_would(trained, data):
    assert units(Shrink(keep=0.3, steps=3, training=None).apply(trained, data).model) == units(
        Shrink(keep=0.3, training=None).apply(trained, data).model
    )


def test_least_squares_helps_without_training(trained, data):
    accuracy = []
    for reconstruct in (False, True):
        small = Shrink(training=None, reconstruct=reconstruct).apply(trained, data).model
        accuracy.append((np.asarray(small(X[900:1300])).argmax(-1) == Y[900:1300]).mean())
    assert accuracy[1] > accuracy[0] + 0.02


def test_nonzero_loses_nothing(trained, data):
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    kernel, bias = model.get_layer("dense").kernel.numpy(), np.linspace(-1, 1, 24)
    kernel[:, :10] = 0
    model.get_layer("dense").kernel.assign(kernel)
    model.get_layer("dense").bias.assign(bias)
    result = Shrink(keep="nonzero").apply(model, data)
    assert units(result.model) == [8, 8, 14, 10] and not result.history
    np.testing.assert_allclose(result.model(X[:50]), model(X[:50]), atol=2e-5)
    nothing = Shrink(keep="nonzero").apply(trained, data)
    assert "No unit was removed." in nothing.notes and units(nothing.model) == units(trained)


def test_under_a_teacher_in_a_chain_and_with_a_criterion_of_its_own(trained, bare):
    distill = Distill(trained, training=FAST)
    small, report = Chain([Shrink(criterion=Taylor(rows=64), training=distill), Shrink(keep=0.5, training=None)])(trained, bare)
    assert units(small) == [2, 2, 6, 10] and len(report.tables["steps"]) == 2


def test_compiled_and_unbuilt_models(data):
    model = net()
    model.compile(keras.optimizers.Adam(0.003), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    small = Shrink(training=None).apply(model, data).model
    assert type(small.optimizer) is keras.optimizers.Adam and float(small.optimizer.learning_rate) == pytest.approx(0.003)
    stack = keras.Sequential([layers.Flatten(), layers.Dense(12, "relu", name="hidden"), layers.Dense(10)])
    made = Shrink(training=FAST).apply(stack, data).model
    assert made.get_layer("hidden").units == 6 and not stack.built


def test_every_criterion_by_name(trained, data):
    for name in ("l1", "l2", "activation", "apoz", "taylor", "batch_norm_scale"):
        made = Shrink(criterion=name, training=None).apply(trained, data).model
        assert units(made)[0] == 4 and units(made)[2] == (24 if name == "batch_norm_scale" else 12), name


class Own(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.dense = layers.Dense(10)

    def call(self, x):
        return self.dense(keras.ops.reshape(x, (-1, 64)))


def stuck():
    i = keras.Input((8, 8, 1))
    return keras.Model(i, layers.Dense(10)(layers.LayerNormalization()(layers.Dense(8, name="only")(layers.Flatten()(i)))))


REFUSED = {
    "two targets": ({"keep": 0.5, "macs": 0.5}, net, ValueError, "`macs`: expected one of keep"),
    "keep": ({"keep": 1.5}, net, ValueError, "`keep`: expected a share"),
    "keep of all": ({"keep": 1.0}, net, ValueError, "`keep`: expected a share"),
    "keep by name": ({"keep": "nonzeros"}, net, ValueError, "Did you mean 'nonzero'"),
    "macs": ({"macs": -1}, net, ValueError, "`macs`: expected a number above 0"),
    "enough already": ({"parameters": 10**9}, net, ValueError, "`parameters`: expected less than the model has"),
    "out of reach": ({"parameters": 10}, net, ValueError, "`parameters`: expected at least"),
    "criterion": ({"criterion": "l3"}, net, ValueError, "`criterion`: expected one of"),
    "training": ({"training": 3}, net, TypeError, "`training`: expected kdfuse.Train"),
    "scope": ({"scope": "all"}, net, ValueError, "`scope`: expected one of"),
    "round_to": ({"round_to": 0}, net, ValueError, "`round_to`: expected an integer"),
    "steps": ({"steps": 0}, net, ValueError, "`steps`: expected an integer"),
    "protect alone": ({"protect": "conv"}, net, TypeError, "`protect`: expected a list"),
    "protect unknown": ({"protect": ["conf"]}, net, ValueError, "`protect`: no layer 'conf'.*Did you mean 'conv'"),
    "control": ({"control": 1}, net, ValueError, "`control`: expected True or False"),
    "control without training": ({"control": True, "training": None}, net, ValueError, "`control`: expected a `training`"),
    "nonzero in steps": ({"keep": "nonzero", "steps": 2}, net, ValueError, "`keep`: 'nonzero' removes without loss"),
    "no graph": ({}, Own, ValueError, "has no graph of layers to follow"),
    "nothing to remove": ({}, stuck, ValueError, "no unit that may go. .*'only'.*its statistics would change"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case, data, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *given, **extra: pytest.fail("training began"))
    settings, build, error, message = REFUSED[case]
    model = build()
    model(X[:1])
    before = model.get_weights()
    with pytest.raises(error, match=message):
        Shrink(**settings)(model, data)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_taylor_needs_labels(trained):
    data = Data(train=(X[:100], None), validation=(X[100:200], Y[100:200]))
    with pytest.raises(ValueError, match="needs labels"):
        Shrink(criterion="taylor", training=Distill(trained, label_weight=0, training=FAST))(trained, data)
    assert units(Shrink(training=Distill(trained, label_weight=0, training=FAST)).apply(trained, data).model)[0] == 4


@pytest.mark.parametrize("kind", ["embedding", "norm"])
def test_initializers_that_hold_an_array(kind):
    values = np.random.default_rng(0).normal(size=(20, 8)).astype("float32")
    constant = keras.initializers.Constant
    i = keras.Input((5,), dtype="int32")
    x = layers.Embedding(20, 8, embeddings_initializer=constant(values) if kind == "embedding" else "uniform")(i)
    x = layers.BatchNormalization(gamma_initializer=constant(values[0]) if kind == "norm" else "ones")(x)
    model = keras.Model(i, layers.Dense(3)(layers.Dense(6, "relu")(layers.GlobalAveragePooling1D()(x))))
    tokens = np.random.default_rng(1).integers(0, 20, (60, 5)).astype("int32")
    data = Data(train=(tokens, np.arange(60) % 3), validation=0.2)
    result = Shrink(0.5, training=FAST, control=True).apply(model, data)
    assert result.model.layers[1].embeddings.shape == (20, 4)
    assert all(np.isfinite(weight).all() for weight in result.baselines["control"].get_weights())


def test_grouped_convolutions_down_to_one_channel_a_group(data):
    i = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, groups=4, name="g")(layers.Conv2D(8, 3, name="first")(i))
    model = keras.Model(i, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    small, report = Shrink(0.5, training=FAST)(model, data)
    rows = {row["layer"]: row for row in report.tables["shrink"]}
    assert rows["g"]["kept"] == small.get_layer("g").filters == 4 and rows["first"]["kept"] == 4
    _, stepped = Shrink(0.3, protect=["g"], steps=2, training=None)(model, data)
    assert {row["layer"]: row["kept"] for row in stepped.tables["shrink"]}["g"] == 8


def test_arguments_by_name_are_measured(data):
    i = keras.Input((8, 8, 1))
    x = layers.Dense(6, "relu")(inputs=layers.Flatten()(inputs=layers.Conv2D(4, 3)(inputs=i)))
    small, _ = Shrink(0.5, training=None, reconstruct=True)(keras.Model(i, layers.Dense(10)(inputs=x)), data)
    assert count_macs(small) == 36 * 9 * 2 + 72 * 3 + 30


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_reconstruct_in_other_precisions_and_inside_wrappers(policy, data):
    i = keras.Input((8, 8, 1))
    x = layers.TimeDistributed(layers.Dense(6, "relu", dtype=policy), dtype=policy)(layers.Conv2D(4, 3, dtype=policy)(i))
    x = layers.Dense(8, "relu", dtype=policy)(layers.Flatten(dtype=policy)(x))
    model = keras.Model(i, layers.Dense(10, dtype="float32")(x))
    small, _ = Shrink(0.5, training=None, reconstruct=True)(model, data)
    assert np.isfinite(np.asarray(small(data.test.x[:8]))).all() and small.layers[1].filters == 2
