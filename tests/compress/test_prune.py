"""Prune on real digits: the model that comes back, the settings, trainers, resume, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.compress.criteria.magnitude import Magnitude
from kdfuse.compress.criteria.threshold import Threshold
from kdfuse.compress.criteria.wanda import Wanda
from kdfuse.compress.patterns import Block, NofM
from kdfuse.compress.prune import Prune
from kdfuse.compress.schedules import ConstantSparsity, IterativeSparsity, PolynomialSparsity
from kdfuse.data import Data
from kdfuse.distill.distill import Distill
from kdfuse.distill.self_distill import SelfDistill
from kdfuse.fitting.stopping import Stopping
from kdfuse.settings import replace
from kdfuse.technique import Chain
from kdfuse.train import Train

layers = keras.layers
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
FAST = Train(epochs=2, batch_size=64, optimizer="sgd", learning_rate=0.3, steps_per_execution=1, checkpoint=0)
ROWS = 460  # 8 steps an epoch, the last one short


@pytest.fixture(scope="module")
def data():
    return Data(train=(X[:ROWS], Y[:ROWS]), validation=(X[800:1000], Y[800:1000]), test=(X[1000:1200], Y[1000:1200]), name="digits")


@pytest.fixture(scope="module")
def rows():
    """For tests that need no measure: training rows alone, which trace one function less."""
    return Data(train=(X[:ROWS], Y[:ROWS]), name="digits")


def net(seed=0, hidden=24):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((64,)), layers.Dense(hidden, "relu", name="first"), layers.Dense(10, name="head")])


def cnn(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same", name="conv2")(x)])
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x)))


def zeros(model, name="first"):
    return float((model.get_layer(name).kernel.numpy() == 0).mean())


def alike(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_pruned_model_comes_back_and_the_given_one_stays(data, tmp_path):
    given = replace(FAST, {"epochs": 12, "batch_size": 32}).apply(net(), data).model
    before, optimizer = given.get_weights(), given.optimizer
    model, report = Prune(0.8, training=replace(FAST, {"epochs": 4}))(given, data)
    assert all(np.array_equal(a, b) for a, b in zip(before, given.get_weights(), strict=True)) and given.optimizer is optimizer
    assert zeros(model) == pytest.approx(0.8, abs=1e-3) and type(model) is keras.Sequential and "train_step" not in vars(model)
    assert report.metrics["prune/sparsity"] == pytest.approx(0.8, abs=1e-3) and report["test/accuracy"] > 0.8
    assert report.history["prune/sparsity"][-1] == report.metrics["prune/sparsity"] > report.history["prune/sparsity"][0]
    assert len(report.history["prune/sparsity"]) == 4 == len(report.history["train/loss"])
    assert [row["layer"] for row in report.tables["sparsity"]] == ["first", "head"]
    assert [row["model"] for row in report.tables["models"]] == ["model", "before"] and "delta/before/test/accuracy" in report.metrics
    assert report.metrics["size/nonzero"] == sum(np.count_nonzero(weight) for weight in model.get_weights())
    model.save(tmp_path / "pruned.keras")
    assert alike(keras.models.load_model(tmp_path / "pruned.keras"), model)
    again, _ = Prune(0.5, schedule="constant", training=FAST)(model, data)  # what is zero stays zero
    gone = model.get_layer("first").kernel.numpy() == 0
    assert not again.get_layer("first").kernel.numpy()[gone].any() and not alike(model, again)


@pytest.fixture(scope="module")
def plain(rows):
    return Prune(0.5, training=FAST).apply(net(), rows).model


def images(data):
    return Data(train=(data.train.x.reshape(-1, 8, 8, 1), data.train.y))


CHANGES = {
    "sparsity": 0.6,
    "schedule": "constant",
    "criterion": Wanda(),
    "scope": "global",
    "pattern": Block(2, 1),
    "layers": {"head": 0.7},
    "training__seed": 5,
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_the_model(name, plain, rows):
    assert not alike(plain, replace(Prune(0.5, training=FAST), {name: CHANGES[name]}).apply(net(), rows).model)


def test_the_same_settings_give_the_same_model(plain, rows):
    assert alike(plain, Prune(0.5, training=FAST).apply(net(), rows).model)


def test_batch_norm_is_measured_again_and_the_table_says_what_is_spared(rows):
    result = Prune(0.5, training=FAST).apply(cnn(), images(rows))
    assert result.metrics["prune/sparsity"] == pytest.approx(0.5, abs=0.01)
    assert any("BatchNorm layers were measured again" in note for note in result.notes)
    assert {row["layer"]: row["note"] for row in result.tables["sparsity"]}["norm"] == "normalisation"
    norm = result.model.get_layer("norm")
    inputs = keras.ops.convert_to_tensor(images(rows).train.x)
    seen = np.asarray(result.model.get_layer("conv1")(inputs)).reshape(-1, 4)
    np.testing.assert_allclose(norm.moving_mean, seen.mean(0), rtol=1e-3, atol=1e-5)


def test_patterns_thresholds_and_no_training(rows):
    model = Prune(pattern=NofM(2, 4), training=FAST).apply(net(), rows).model
    assert (model.get_layer("first").kernel.numpy().reshape(16, 4, 24) == 0).sum(1).min() >= 2
    model = Prune(0.75, pattern=Block(4, 1), training=FAST).apply(net(), rows).model
    blocks = (model.get_layer("first").kernel.numpy().reshape(16, 4, 24) == 0).sum(1)
    assert set(np.unique(blocks)) == {0, 4} and (blocks == 4).mean() == 0.75
    result = Prune(criterion=Threshold(0.1), training=FAST).apply(net(), rows)
    mask = np.abs(net().get_layer("first").kernel.numpy()) >= 0.1
    assert np.array_equal(result.model.get_layer("first").kernel.numpy() != 0, mask)
    assert result.tables["sparsity"][0]["sparsity"] == pytest.approx(1 - mask.mean())
    given = net()
    for criterion in (Magnitude(), Wanda(rows=64)):
        result = Prune(0.5, criterion=criterion, training=None).apply(given, rows)
        kernel, before = (one.get_layer("first").kernel.numpy() for one in (result.model, given))
        assert np.array_equal(kernel[kernel != 0], before[kernel != 0]) and (kernel == 0).mean() == 0.5 and result.history == {}


def test_rounds_go_on_with_the_weights(data):
    once = replace(FAST, {"epochs": 1})
    result = Prune(0.75, schedule=IterativeSparsity(2), training=once).apply(net(), data)
    assert zeros(result.model) == pytest.approx(0.75, abs=1e-3)
    assert len(result.history["train/loss"]) == 2 == len(result.history["prune/sparsity"])
    assert [row["sparsity"] for row in result.tables["rounds"]] == pytest.approx([0.5, 0.75], abs=1e-2)
    assert "validation/accuracy" in result.tables["rounds"][0]


def test_rewinding_goes_back_to_the_weights_of_the_given_model(rows):
    given, still = net(), replace(FAST, {"epochs": 1, "learning_rate": 1e-12})
    result = Prune(0.75, schedule=IterativeSparsity(2, "weights"), training=still).apply(given, rows)
    kernel = result.model.get_layer("first").kernel.numpy()
    np.testing.assert_allclose(kernel[kernel != 0], given.get_layer("first").kernel.numpy()[kernel != 0], atol=1e-6)
    assert len(result.history["train/loss"]) == 3 and zeros(result.model) == pytest.approx(0.75, abs=1e-3)
    # Masks come from trained weights: what is left is not what was largest at the beginning.
    trained = Prune(0.75, schedule=IterativeSparsity(1, "weights"), training=replace(FAST, {"learning_rate": 0.1})).apply(given, rows).model
    at_once = Prune(0.75, schedule="constant", training=still).apply(given, rows).model
    assert not np.array_equal(*((one.get_layer("first").kernel.numpy() == 0) for one in (trained, at_once)))


@pytest.mark.parametrize("kind", ["distill", pytest.param("self", marks=pytest.mark.slow)])
def test_every_trainer_trains_a_pruned_model_and_chains(kind, rows):
    training = {"distill": lambda: Distill(net(1), training=FAST), "self": lambda: SelfDistill(("first",), training=FAST)}[kind]()
    model, report = Chain([Prune(0.5, training=training), Prune(0.8, schedule="constant", training=training)])(net(), rows)
    assert zeros(model) == pytest.approx(0.8, abs=1e-3) and len(report.tables["steps"]) == 2
    assert report.children[0].metrics["prune/sparsity"] == pytest.approx(0.5, abs=1e-3)


def two_outputs():
    inputs = keras.Input((64,))
    hidden = layers.Dense(16, "relu", name="first")(inputs)
    return keras.Model(inputs, {"a": layers.Dense(10, name="a")(hidden), "b": layers.Dense(1, name="b")(hidden)})


def some(kind):
    names = [str(one) for one in range(10)]
    stream = tf.data.Dataset.from_tensor_slices((X[:200], Y[:200])).batch(32)
    made = {
        "plain": lambda: Data(train=(X[:200], Y[:200])),
        "outputs": lambda: Data(train=(X[:200], {"a": Y[:200], "b": Y[:200, None] / 9.0})),
        "weights": lambda: Data(train=(X[:200], Y[:200], np.linspace(0, 2, 200, dtype="float32"))),
        "stream": lambda: Data(train=stream, class_names=names),
        "unknown length": lambda: Data(train=stream.filter(lambda x, y: True), class_names=names),
    }
    return made[kind]()


WAYS = {
    "mixed precision": (net, "plain", {"precision": "mixed_float16"}, "polynomial"),
    "l2 and momentum": (net, "plain", {"l2": 0.01, "optimizer": "momentum"}, "polynomial"),
    "two outputs": (two_outputs, "outputs", {}, "polynomial"),
    "sample weights": (net, "weights", {}, "polynomial"),
    "a stream": (net, "stream", {}, "polynomial"),
    "a stream of unknown length": (net, "unknown length", {}, PolynomialSparsity(begin=1, end=9)),
    "averaged weights": (net, "plain", {"optimizer": keras.optimizers.SGD(use_ema=True)}, "polynomial"),
}
DEFAULT = ("mixed precision", "a stream of unknown length")


@pytest.mark.parametrize("way", [pytest.param(way, marks=() if way in DEFAULT else pytest.mark.slow) for way in WAYS])
def test_ways_to_train(way):
    build, kind, changes, schedule = WAYS[way]
    result = Prune(0.75, schedule=schedule, training=replace(FAST, changes)).apply(build(), some(kind))
    assert zeros(result.model) == pytest.approx(0.75, abs=1e-3)
    assert {layer.dtype_policy.name for layer in result.model.layers} == {"float32"}


def test_steps_in_one_execution_change_nothing(plain, rows):
    one, eight = plain, Prune(0.5, training=replace(FAST, {"steps_per_execution": "auto"})).apply(net(), rows).model
    assert alike(one, eight)


@pytest.mark.parametrize("schedule", ["polynomial", pytest.param(IterativeSparsity(2), marks=pytest.mark.slow)])
def test_an_interrupted_call_goes_on_where_it_was(schedule, rows, monkeypatch):
    technique = Prune(0.8, schedule=schedule, training=Train(epochs=2, batch_size=64, decay="cosine"))
    undisturbed, whole = technique(net(), rows)
    log = recording.Run.log

    def stop(run, values, step=None):
        log(run, values, step)
        first = 1 if schedule == "polynomial" else 3  # of the second round
        if "train/loss" in values and step == first:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recording.Run, "log", stop)
        technique(net(), rows)
    resumed, report = technique(net(), rows)
    assert any("Resumed at epoch" in note for note in report.notes) and alike(undisturbed, resumed)
    assert report.history == whole.history and report.tables["sparsity"] == whole.tables["sparsity"]


def test_subclassed_and_unbuilt_models(rows):
    class Net(keras.Model):
        def __init__(self, **named):
            super().__init__(**named)
            self.first, self.head = layers.Dense(8, "relu", name="first"), layers.Dense(10, name="head")

        def call(self, x):
            return self.head(self.first(x))

    for model in (Net(), keras.Sequential([layers.Dense(8, "relu", name="first"), layers.Dense(10)])):
        made = Prune(0.5, schedule="constant", training=FAST).apply(model, rows).model
        assert not model.built and (made.layers[0].kernel.numpy() == 0).mean() == 0.5


def test_stopping_ends_the_fine_tuning_alone(rows):
    training = replace(FAST, {"epochs": 6, "stopping": Stopping("train/learning_rate", patience=1)})
    result = Prune(0.5, schedule="constant", training=training).apply(net(), rows)
    assert zeros(result.model) == 0.5 and len(result.history["train/loss"]) == 2
    with pytest.raises(ValueError, match="`training`: its `stopping` could end the run"):
        Prune(0.5, training=training).check(net(), rows)


def test_a_run_that_does_not_reach_its_sparsity_raises():
    with pytest.raises(RuntimeError, match=r"the sparsity was not reached: first/kernel has a sparsity of 0\.\d+ instead of 0\.9"):
        Prune(0.9, schedule=PolynomialSparsity(begin=1, end=1001), training=FAST).apply(net(), some("unknown length"))


REFUSED = {
    "no sparsity": ({}, ValueError, "`sparsity`: expected the share of zeros"),
    "sparsity of 1": ({"sparsity": 1.0}, ValueError, r"`sparsity`: expected a share of zeros in \[0, 1\)"),
    "negative": ({"sparsity": -0.1}, ValueError, "`sparsity`: expected a share"),
    "per cent": ({"sparsity": 90}, ValueError, "`sparsity`: expected a share"),
    "both": ({"sparsity": 0.5, "pattern": NofM()}, ValueError, "`sparsity`: N of M decides"),
    "and a threshold": ({"sparsity": 0.5, "criterion": Threshold(0.1)}, ValueError, "`sparsity`: a threshold decides"),
    "schedule of a threshold": ({"criterion": Threshold(0.1), "schedule": "polynomial"}, ValueError, "`schedule`: a threshold has one"),
    "threshold of n of m": ({"criterion": Threshold(0.1), "pattern": NofM()}, ValueError, "N of M takes no threshold"),
    "schedule": ({"sparsity": 0.5, "schedule": "polynomal"}, ValueError, "`schedule`: .*Did you mean 'polynomial'"),
    "schedule without training": ({"sparsity": 0.5, "schedule": "iterative", "training": None}, ValueError, "`schedule`: without training"),
    "scope": ({"sparsity": 0.5, "scope": "globl"}, ValueError, "`scope`: .*Did you mean 'global'"),
    "scope of blocks": ({"sparsity": 0.5, "scope": "output", "pattern": Block()}, ValueError, "`scope`: expected 'auto' with this"),
    "scope of a threshold": ({"criterion": Threshold(0.1), "scope": "global"}, ValueError, "`scope`: a threshold"),
    "criterion": ({"sparsity": 0.5, "criterion": "wanda"}, TypeError, "`criterion`: expected a criterion of weights"),
    "pattern": ({"sparsity": 0.5, "pattern": (2, 4)}, TypeError, "`pattern`: expected kdfuse.NofM"),
    "training": ({"sparsity": 0.5, "training": 3}, TypeError, "`training`: expected kdfuse.Train"),
    "layers": ({"sparsity": 0.5, "layers": {"frist": None}}, ValueError, "`layers`: .*Did you mean 'first'"),
    "too long": ({"sparsity": 0.5, "schedule": PolynomialSparsity(0, 1, 101)}, ValueError, "goes on to step 101, and the run has 16 steps"),
    "constant, too late": ({"sparsity": 0.5, "schedule": ConstantSparsity(17)}, ValueError, "goes on to step 17"),
    "threshold of nothing": ({"criterion": Threshold(1e-9)}, ValueError, "no weight is below the threshold 1e-09"),
    "threshold of all": ({"criterion": Threshold(9.0)}, ValueError, "takes all weights of 'first'"),
    "grouped steps": (
        {"sparsity": 0.5, "training": replace(FAST, {"jit": True, "steps_per_execution": 8})},
        ValueError,
        "steps_per_execution=1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_training(case, data, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *given, **extra: pytest.fail("training began"))
    settings, error, message = REFUSED[case]
    model = net()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        Prune(**{"training": FAST, **settings})(model, data)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_threshold_is_for_the_weights_that_a_chain_has_come_to(data):
    given = keras.Sequential([keras.Input((64,)), layers.Dense(10, kernel_initializer="zeros", name="only")])
    with pytest.raises(ValueError, match="takes all weights of 'only'"):
        Prune(criterion=Threshold(1e-3), training=None)(given, data)
    made, _ = Chain([FAST, Prune(criterion=Threshold(1e-3), training=None)])(given, data)
    assert 0 < zeros(made, "only") < 1


def test_models_without_kernels_or_inputs_for_a_pattern_are_refused(rows):
    bare = keras.Sequential(
        [keras.Input((64,)), layers.Rescaling(2.0), layers.Reshape((8, 8)), layers.GlobalAveragePooling1D(), layers.Dense(10)]
    )
    with pytest.raises(ValueError, match="nothing to prune"):
        Prune(0.5, layers={"dense*": None}, training=FAST)(bare, rows)
    with pytest.raises(ValueError, match=r"`pattern`: 'conv1' reads 1 input, .*layers=\{'conv1': None\}"):
        Prune(pattern=NofM(2, 4), training=FAST)(cnn(), images(rows))
    result = Prune(pattern=NofM(2, 4), layers={"conv1": None}, training=FAST).apply(cnn(), images(rows))
    assert zeros(result.model, "conv2") == 0.5 and zeros(result.model, "conv1") == 0.0
    assert result.tables["sparsity"][0]["target"] == "2 of 4"


@pytest.mark.slow
def test_xla_and_several_devices_prune_step_by_step(plain, rows):
    apart = Prune(0.5, training=replace(FAST, {"jit": True})).apply(net(), rows).model
    mask, other = (one.get_layer("first").kernel.numpy() != 0 for one in (plain, apart))
    assert (mask == other).mean() > 0.95 and zeros(apart) == 0.5
    spread = Prune(0.5, training=replace(FAST, {"strategy": "mirrored"})).apply(net(), rows).model
    assert zeros(spread) == 0.5 and (mask == (spread.get_layer("first").kernel.numpy() != 0)).mean() > 0.95
