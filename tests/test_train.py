import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdfuse import recording
from kdfuse.data import Data
from kdfuse.fitting.decay import Cosine, Plateau
from kdfuse.fitting.guards import NonFiniteLoss
from kdfuse.fitting.stopping import Stopping
from kdfuse.home import home
from kdfuse.settings import flatten, replace
from kdfuse.train import Train, Trainer

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")


def digits(rows=600, **given):
    return Data(train=(X[:rows], Y[:rows]), validation=(X[1200:1400], Y[1200:1400]), test=(X[1400:], Y[1400:]), **given)


def net(units=16, dropout=0.0, seed=0, activation=None, outputs=10):
    keras.utils.set_random_seed(seed)
    inner = [keras.layers.Dense(units, "relu"), keras.layers.Dropout(dropout, seed=seed), keras.layers.Dense(outputs, activation)]
    return keras.Sequential([keras.Input((64,)), *inner])


def weights_of(training, data=None, model=None):
    """After training on rows alone: nothing else is looked at."""
    return Train.apply(training, model or net(dropout=0.3), data or Data(train=(X[:300], Y[:300]))).model.get_weights()


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_trains_reports_and_leaves_the_given_model_alone():
    model, data = net(), digits()
    model.layers[0].trainable = False
    before, compiled = model.get_weights(), model.compiled
    trained, report = Train(epochs=8, learning_rate=0.01)(model, data)
    assert same(before, model.get_weights()) and model.compiled is compiled and not model.layers[0].trainable
    assert same(trained.get_weights()[:2], before[:2]) and not same(trained.get_weights(), before)
    assert report["test/accuracy"] > 0.5 and report["accuracy"] == report.metrics["validation/accuracy"]
    assert {"train/loss", "validation/loss", "train/accuracy", "validation/accuracy"} <= set(report.history)
    assert len(report.history["train/loss"]) == 8 and report.settings["learning_rate"] == 0.01
    assert trained.evaluate(X[1400:], Y[1400:], verbose=0)[1] == pytest.approx(report["test/accuracy"], abs=1e-6)
    assert isinstance(trained.optimizer, keras.optimizers.SGD)
    assert isinstance(Train(), Trainer)


def test_the_same_arithmetic_as_keras_fit():
    model, data = net(), digits(320)
    trained = Train.apply(Train(epochs=2, batch_size=32, optimizer="sgd", learning_rate=0.1, seed=5), model, data).model
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    plain.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for epoch in range(2):
        order = np.random.default_rng([5, epoch]).permutation(320)
        plain.fit(X[order], Y[order], batch_size=32, shuffle=False, verbose=0)
    for ours, theirs in zip(trained.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


BASE = Train(epochs=2, learning_rate=0.003)


@pytest.fixture(scope="module")
def plain():
    return weights_of(BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 3}, {"batch_size": 50}, {"optimizer": "sgd"}, {"optimizer": keras.optimizers.Adam(beta_1=0.5)}, {"learning_rate": 0.01},
        {"decay": "cosine"}, {"decay": Cosine(warmup=1.0)}, {"l2": 0.1},
        {"loss": keras.losses.CategoricalFocalCrossentropy(from_logits=True)},
        {"class_weight": {0: 5.0}}, {"class_weight": "balanced"}, {"precision": "mixed_bfloat16"}, {"seed": 1},
        {"stopping": Stopping(monitor="train/accuracy", min_delta=1.0, patience=1)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_each_setting_changes_the_result(change, plain):
    data = Data(train=(X[:300], np.eye(10, dtype="float32")[Y[:300]])) if "loss" in change else None
    assert not same(weights_of(BASE, data) if data else plain, weights_of(replace(BASE, change), data))


def test_settings_of_execution_change_how_it_runs_but_not_what_comes_out():
    base = Train(epochs=1, batch_size=100)
    plain = weights_of(base, model=net())  # without dropout: XLA draws other numbers
    for change in ({"jit": True}, {"strategy": "one_device"}, {"checkpoint": 0}, {"head": "logits"}, {"steps_per_execution": 1}):
        for ours, theirs in zip(weights_of(replace(base, change), model=net()), plain, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=str(change))
    with pytest.raises(ValueError, match="head"):
        weights_of(replace(base, {"head": "softmax"}))
    with pytest.raises(ValueError, match="strategy"):
        weights_of(replace(base, {"strategy": "miror"}))


def test_jit_reaches_keras():
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.model.jit_compile)

    for jit in (True, False):
        training = Train(epochs=1, jit=jit)
        training.fit(training.private(net(), digits(64)), digits(64), [Look()])
    assert seen == [True, False]


def test_steps_per_execution_reaches_keras_and_changes_no_bit():
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.model.steps_per_execution)

    found = []
    for together in ("auto", 1):
        training = Train(epochs=2, batch_size=16, steps_per_execution=together)
        model = training.private(net(dropout=0.3), digits(100))
        training.fit(model, digits(100), [Look()])
        found.append(model.get_weights())
    assert seen == [7, 1]
    assert same(found[0], found[1])


def test_same_seed_same_weights_also_with_dropout():
    training = Train(epochs=2, seed=3)
    assert same(weights_of(training), weights_of(training))


def test_l2_is_half_lambda_times_the_squares_on_top_of_the_layers_own():
    data = Data(train=(X[:32], Y[:32]))
    model = net()
    model.layers[0].kernel.regularizer = keras.regularizers.L2(0.01)
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(16, "relu", kernel_regularizer=keras.regularizers.L2(0.01))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10)(hidden))
    kernels = [layer.kernel.numpy() for layer in model.layers[1:]]
    still = {"epochs": 1, "batch_size": 32, "optimizer": "sgd", "learning_rate": 1e-12}
    without, added = (Train.apply(Train(**still, l2=l2), model, data).history["train/loss"][0] for l2 in (0.0, 0.2))
    assert added - without == pytest.approx(0.1 * sum(np.sum(kernel**2) for kernel in kernels), rel=1e-4)


def test_the_compiled_loss_and_metrics_of_the_model_are_used_and_kept():
    model = net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss, metrics=["sparse_top_k_categorical_accuracy"])
    trained, report = Train(epochs=1)(model, digits(200))
    assert "train/sparse_top_k_categorical_accuracy" in report.history
    assert len(trained.evaluate(X[:20], Y[:20], verbose=0)) == 2
    assert float(model.optimizer.learning_rate) == 0.5 and not model.optimizer.built
    assert float(trained.optimizer.learning_rate) == 0.5 and trained.optimizer is not model.optimizer


def test_a_saved_result_is_no_larger_than_its_weights_and_loads_without_a_warning(tmp_path):
    trained = Train.apply(Train(epochs=1), net(units=256), digits(64)).model
    trained.save(tmp_path / "trained.keras")
    assert (tmp_path / "trained.keras").stat().st_size < 1.2 * 4 * trained.count_params() + 20_000
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*optimizer.*")
        loaded = keras.models.load_model(tmp_path / "trained.keras")
    assert loaded.evaluate(X[:50], Y[:50], verbose=0) == pytest.approx(trained.evaluate(X[:50], Y[:50], verbose=0))


def test_sample_weights_zero_rows_count_for_nothing():
    weights = np.r_[np.ones(200, "float32"), np.zeros(100, "float32")]
    wrong = Y[:300].copy()
    wrong[200:] = (wrong[200:] + 1) % 10
    ours = weights_of(Train(epochs=2), Data(train=(X[:300], wrong, weights)))
    theirs = weights_of(Train(epochs=2), Data(train=(X[:300], Y[:300], weights)))
    assert same(ours, theirs)


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset", "dict"])
def test_every_kind_of_data(kind):
    import tensorflow as tf

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 6

        def __getitem__(self, place):
            rows = slice(place * 50, place * 50 + 50)
            return X[rows], Y[rows], np.ones(50, "float32")

    inputs = keras.Input((64,), name="pixels")
    model = net()
    if kind == "tf.data":
        train = tf.data.Dataset.from_tensor_slices((X[:300], Y[:300])).batch(50)
    elif kind == "PyDataset":
        train = Batches()
    else:
        train = ({"pixels": X[:300]}, {"digit": Y[:300]})
        model = keras.Model({"pixels": inputs}, {"digit": keras.layers.Dense(10, name="digit")(inputs)})
    test = ({"pixels": X[1400:]}, {"digit": Y[1400:]}) if kind == "dict" else (X[1400:], Y[1400:])
    _, report = Train(epochs=12, learning_rate=0.01)(model, Data(train=train, test=test))
    assert report["test/accuracy"] > 0.6
    assert any("stream" in note for note in report.notes) is (kind != "dict")


def test_subclassed_unbuilt_model():
    class Net(keras.Model):
        def __init__(self, units=8, **given):
            super().__init__(**given)
            self.units = units
            self.hidden, self.last = keras.layers.Dense(units, "relu"), keras.layers.Dense(10)

        def call(self, x):
            return self.last(self.hidden(x))

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    trained, report = Train(epochs=4, learning_rate=0.01)(Net(units=12), digits())
    assert report["test/accuracy"] > 0.4 and trained.hidden.units == 12


def test_early_stopping_brings_the_best_weights_back_and_says_so():
    trained, report = Train(epochs=40, learning_rate=0.3, stopping=Stopping(patience=2))(net(), digits(200))
    curve = report.history["validation/loss"]
    assert len(curve) < 40 and any("Stopped early" in note for note in report.notes)
    assert trained.evaluate(X[1200:1400], Y[1200:1400], verbose=0)[0] == pytest.approx(min(curve), rel=1e-4)


def test_nan_stops_the_run_says_where_and_keeps_the_last_good_weights():
    memory = recording.Memory()
    with recording.use(memory), pytest.raises(NonFiniteLoss, match=r"epoch [01]") as caught:
        Train(epochs=5, optimizer="sgd", learning_rate=1e20)(net(), digits(200))
    good = keras.models.load_model(caught.value.path)
    assert all(np.isfinite(weight).all() for weight in good.get_weights())
    assert [arguments[1] for hook, arguments in memory.events if hook == "end"] == ["failed"]


def test_a_finished_run_leaves_no_state_and_trains_again_when_called_again():
    Train(epochs=2)(net(), digits(200))
    assert not list(home("state").glob("*/fit-*"))
    _, second = Train(epochs=2)(net(), digits(200))
    assert len(second.history["train/loss"]) == 2 and not any("Resumed" in note for note in second.notes)


class Crash(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


class Interrupted(Train):
    """A Train that is interrupted in an epoch; the run has the key of the same class each time."""

    crash = None

    def fit(self, model, data, callbacks=(), *, engine=None):
        return super().fit(model, data, [*callbacks, *([Crash(self.crash)] if self.crash is not None else [])], engine=engine)


@pytest.mark.parametrize("decay", ["constant", "cosine", Plateau(patience=1)], ids=["constant", "cosine", "plateau"])
def test_an_interrupted_run_resumes_and_ends_with_the_same_weights(decay, monkeypatch):
    training = Interrupted(epochs=6, decay=decay, learning_rate=0.02, stopping=Stopping(patience=2))
    straight, report = training(net(dropout=0.4), digits(300))
    monkeypatch.setattr(Interrupted, "crash", 3)
    with pytest.raises(KeyboardInterrupt):
        training(net(dropout=0.4), digits(300))
    monkeypatch.setattr(Interrupted, "crash", None)
    resumed, again = training(net(dropout=0.4), digits(300))
    assert any("Resumed at epoch 4" in note for note in again.notes)
    assert same(straight.get_weights(), resumed.get_weights())
    assert again.history == report.history


SCRIPT = """
    import sys, numpy as np, keras, kdfuse as kf
    from sklearn.datasets import load_digits
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    data = kf.Data(train=(x[:400], y[:400]), validation=(x[400:600], y[400:600]), test=(x[600:800], y[600:800]))
    keras.utils.set_random_seed(1)
    layers = [keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.4)]
    layers.append(keras.layers.Dense(10))
    training = kf.Train(epochs=25, batch_size=16, decay=kf.Cosine(warmup=2), stopping=kf.Stopping(patience=30), deterministic=True)
    class Tell(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            print("epoch", epoch, flush=True)
    fit = type(training).fit
    type(training).fit = lambda self, model, data, callbacks=(), **more: fit(self, model, data, [*callbacks, Tell()], **more)
    trained, report = training(keras.Sequential(layers), data)
    np.savez(sys.argv[1], *trained.get_weights(), np.array(report.history["train/loss"]))
    print("notes", report.notes)
    from tensorflow.python.framework.config import is_op_determinism_enabled
    assert is_op_determinism_enabled()
"""


def test_kill_9_at_a_random_step_loses_nothing(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def start(out, place):
        environment = {**os.environ, "KDFUSE_HOME": str(tmp_path / place), "PYTHONPATH": os.getcwd()}
        command = [sys.executable, script, tmp_path / out]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)

    straight = start("straight.npz", "a")
    assert straight.wait(120) == 0
    random = np.random.default_rng(int(time.time()))
    reached = int(random.integers(3, 22))
    killed = start("killed.npz", "b")
    for line in killed.stdout:
        if line.strip() == f"epoch {reached}":
            time.sleep(random.uniform(0, 0.05))
            os.kill(killed.pid, signal.SIGKILL)
            break
    killed.wait()
    assert not (tmp_path / "killed.npz").exists()
    again = start("killed.npz", "b")
    out = again.communicate(timeout=120)[0]
    assert again.returncode == 0 and re.search(rf"Resumed at epoch ({reached + 1}|{reached + 2}) of 25", out), out
    with np.load(tmp_path / "straight.npz") as ours, np.load(tmp_path / "killed.npz") as theirs:
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours.files)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Train(epoch=3), TypeError, "Did you mean 'epochs'"),
        (lambda: Train(epochs=0), ValueError, "`epochs`"),
        (lambda: Train(batch_size=2.5), ValueError, "`batch_size`"),
        (lambda: Train(l2=-1), ValueError, "`l2`"),
        (lambda: Train(precision="float8"), ValueError, "`precision`"),
        (lambda: Train(jit="yes"), ValueError, "`jit`"),
        (lambda: Train(class_weight="even"), ValueError, "`class_weight`"),
        (lambda: Train(class_weight=[1.0, 5.0]), ValueError, "`class_weight`: expected a dict"),
        (lambda: Train(stopping=3), TypeError, "`stopping`"),
        (lambda: Train(decay="cosin"), ValueError, "cosine"),
        (lambda: Train(checkpoint=-1), ValueError, "`checkpoint`"),
        (lambda: Train(seed=-1), ValueError, "`seed`"),
        (lambda: Train(steps_per_execution=0), ValueError, "`steps_per_execution`"),
        (lambda: Train(jit=True, deterministic=True), ValueError, "`jit`"),
    ],
)
def test_wrong_settings_raise_at_once(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_what_does_not_fit_raises_before_training():
    bare = Data(train=(X[:100], Y[:100]))
    scheduled = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 5))
    cases = [
        (Train(stopping=Stopping()), net(), bare, ValueError, "no validation split"),
        (Train(decay="plateau"), net(), bare, ValueError, "no validation split"),
        (Train(class_weight={11: 1.0}), net(), bare, ValueError, "classes 0 to 9"),
        (Train(decay="cosine", optimizer=scheduled), net(), bare, ValueError, "schedule"),
        (Train(), net(outputs=4), bare, ValueError, "10"),
        (Train(), lambda data: data, bare, TypeError, "Call it first"),
        (Train(), net(), (X, Y), TypeError, "Wrap it"),
        (Train(), object(), bare, TypeError, "Keras 3"),
    ]
    for training, model, data, error, words in cases:
        memory = recording.Memory()
        with recording.use(memory), pytest.raises(error, match=words):
            training(model, data)
        assert memory.events == [], words


def test_the_settings_of_an_optimizer_object_have_names():
    training = Train(optimizer=keras.optimizers.AdamW(weight_decay=0.02))
    assert flatten(training)["optimizer__weight_decay"] == 0.02
    assert replace(training, {"optimizer__weight_decay": 0.5}).optimizer.weight_decay == 0.5
