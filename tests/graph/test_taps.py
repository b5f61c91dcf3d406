import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.datasets.load import load
from kdfuse.graph.copy import copy_model
from kdfuse.graph.taps import Taps, shapes
from kdfuse.graph.trace import watching

layers = keras.layers
X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
IMAGES = np.random.default_rng(1).normal(size=(3, 8, 8, 1)).astype("float32")
WORDS = np.array([[1, 2, 3, 0], [4, 5, 0, 0]])


def read(model, names, x, example=None, **how):
    with Taps(model, names, example) as taps:
        taps.start()
        model(x, **how)
        return taps.values()


def network():
    """A convnet of a residual stage in a nested model, a shared layer, plain operations, and a softmax of its own."""
    inner = keras.Input((8, 8, 2))
    y = layers.Conv2D(2, 3, padding="same", name="conv")(inner)
    y = keras.ops.relu(layers.Add(name="sum")([y, inner]) + 1.0)
    stage = keras.Model(inner, layers.BatchNormalization(name="norm")(y), name="stage")
    inputs = keras.Input((8, 8, 1))
    shared = layers.Dense(2, name="shared")
    y = shared(layers.Conv2D(2, 3, padding="same", name="conv")(inputs))
    y = shared(stage(y))
    pooled = layers.GlobalAveragePooling2D(name="pool")(y)
    return keras.Model(inputs, layers.Softmax(name="soft")(layers.Dense(3, name="head")(pooled)), name="network")


def state(model):
    parts = [part for layer in model._flatten_layers() for part in (layer, *(getattr(layer, "_operations", None) or []))]
    return [(id(part), dict(vars(part))) for part in parts]


# ─ what is read


def test_values_are_those_of_a_model_cut_there():
    model = network()
    stage = model.get_layer("stage")
    plain = [operation.name for operation in stage.operations if not isinstance(operation, keras.Layer)]
    assert len(plain) == 2
    names = ["conv", "stage/conv", "norm", "stage/sum", *plain, "stage", "pool", "head", "head.input", "stage.input", None, "soft"]
    first, second = [node.outputs[0] for node in model.get_layer("shared")._inbound_nodes]
    cut = keras.Model(model.inputs, [model.get_layer("conv").output, first, second, model.get_layer("pool").output,
                                     model.get_layer("head").output, model.output])  # fmt: skip
    conv, first, second, pool, head, soft = (value.numpy() for value in cut([IMAGES]))
    in_stage = [stage.get_layer(name).output for name in ("conv", "norm", "sum")]
    in_stage += [operation.output for operation in stage.operations if operation.name in plain]
    stage_conv, norm, total, *ops = (value.numpy() for value in keras.Model(stage.inputs, in_stage)([first]))
    wanted = [conv, stage_conv, norm, total, *ops, norm, pool, head, pool, first, pool, soft]
    for name, value, expected in zip(names, read(model, names, IMAGES), wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=str(name))
    calls = read(model, ["shared:0", "shared:1", "shared:-1", "shared:1.input"], IMAGES)
    for value, expected in zip(calls, (first, second, second, norm), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert shapes(model, ["stage/conv", None], IMAGES) == [(3, 8, 8, 2), (3, 2)]
    assert Taps(model, ["conv", None]).names == ("conv", None)


def test_a_subclassed_model_of_lists_wrappers_and_attention():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Dense(4, name="a"), keras.Sequential([layers.Dense(4, name="b"), layers.ReLU(name="r")], name="seq")]
            self.attend = layers.MultiHeadAttention(2, 2, name="attend")
            self.time = layers.TimeDistributed(layers.Dense(3, name="each"), name="time")
            self.both = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both")
            self.head = layers.Dense(2, name="head")

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            x = self.both(self.time(self.attend(query=x, value=x)))
            return keras.ops.softmax(self.head(x[:, -1]))

    model, x = Own(), X.reshape(2, 2, 6)
    names = ["a", "seq/b", "r", "seq", "attend", "attend/query", "attend.input", "time", "each:1", "both"]
    names += [f"both/{model.both.forward_layer.name}", None]
    a, b, r, seq, attend, query, into, time, each, both, forward, features = read(model, names, x, example=x)
    np.testing.assert_allclose(a, x @ model.blocks[0].kernel + model.blocks[0].bias, rtol=1e-5)
    np.testing.assert_allclose(r, np.maximum(b, 0))
    assert seq is r and into is r and query.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(time, model.time(attend), rtol=1e-5)
    np.testing.assert_allclose(each, time[:, 1])
    np.testing.assert_allclose(both, model.both(time), rtol=1e-5)
    np.testing.assert_allclose(forward, both[..., :2])
    np.testing.assert_allclose(features, both[:, -1])


@pytest.mark.parametrize(
    ("last", "wanted"),
    [
        (lambda: [layers.Dense(3), layers.Softmax()], "body"),
        (lambda: [layers.Dense(3), layers.BatchNormalization(), layers.Activation("softmax"), layers.Dropout(0.5)], "body"),
        (lambda: [layers.Dropout(0.5, name="drop"), layers.Dense(3), layers.Reshape((3, 1))], "drop"),
        (lambda: [keras.Sequential([layers.ReLU(name="inner"), layers.Dense(3), layers.Softmax()])], "inner"),
        (lambda: [layers.Dense(5, name="more"), keras.Sequential([layers.Dense(3)])], "more"),
        (lambda: [layers.Reshape((6, 1), name="as"), layers.TimeDistributed(layers.Dense(3))], "as"),
    ],
)  # fmt: skip
def test_none_is_what_goes_into_the_last_layer_with_a_kernel(last, wanted):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="body"), *last()])
    features, expected = read(model, [None, wanted], X)
    np.testing.assert_array_equal(features, expected)


def test_none_follows_the_first_output():
    inputs = keras.Input((6,))
    a, b = (layers.Dense(4, name=name)(inputs) for name in "ab")
    model = keras.Model(inputs, {"x": layers.Dense(2)(a), "y": layers.Dense(2)(b)})
    features, expected = read(model, [None, "a"], X)
    assert features is expected


def test_what_is_tapped_has_its_mask():
    inputs = keras.Input((None,), dtype="int64")
    y = layers.Embedding(9, 4, mask_zero=True, name="embed")(inputs)
    y = layers.Dense(4, name="dense")(y)
    y = layers.MultiHeadAttention(1, 4, name="attend")(y, y)
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(layers.LayerNormalization(name="norm")(y)))

    def step(x):
        return [(value, value._keras_mask) for value in read(model, ["embed", "dense", "attend.input", "attend", "norm"], x)]

    for run in (step, tf.function(step)):
        for value, mask in run(WORDS):
            assert value.shape == (2, 4, 4)
            np.testing.assert_array_equal(mask, WORDS != 0)
    sequence = keras.Sequential([keras.Input((6,)), layers.Dense(4, name="plain"), layers.Dense(2)])
    assert getattr(read(sequence, ["plain"], X)[0], "_keras_mask", None) is None


def test_layers_of_an_unbuilt_model_that_its_first_call_builds():
    class Late(keras.Model):
        def build(self, shape):
            self.inner = layers.Dense(3, name="late")
            self.inner.build(shape)

        def call(self, x):
            return self.inner(x)

    with pytest.raises(ValueError, match="is not built, so layers may be missing"):
        Taps(Late(), ["late"])
    assert shapes(Late(), ["late"], X) == [(4, 3)]

    class Holder(layers.Layer):  # its shapes are found by calling it in a graph that is thrown away
        def __init__(self):
            super().__init__(name="holder")
            self.inner = layers.Dense(3, name="inside")

        def call(self, x):
            return self.inner(x)

    (value,) = read(keras.Sequential([Holder()]), ["inside"], X)
    assert value.shape == (4, 3)


def test_a_quantized_and_a_rematerialized_layer():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4, name="dense"), layers.Dense(2)])
    model.quantize("int8")
    (value,) = read(model, ["dense"], X)
    np.testing.assert_allclose(value, model.layers[0](X), rtol=1e-6)

    with keras.RematScope(mode="full"):
        dense = layers.Dense(4, name="dense")
        inside = keras.Sequential([layers.Dense(4, name="deep")], name="all")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(dense(inputs)))
    for wrap in (lambda function: function, tf.function):

        def step():
            with tf.GradientTape() as tape:
                (value,) = read(model, ["dense"], tf.constant(X))
                loss = tf.reduce_sum(value**2)
            return value, tape.gradient(loss, dense.kernel)

        value, gradient = wrap(step)()
        np.testing.assert_allclose(value, X @ dense.kernel, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(gradient, 2 * X.T @ value.numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="'all/deep' lies inside 'all', which keras.RematScope runs anew"):
        Taps(keras.Sequential([inside]), ["deep"])


# ─ names


def test_wrong_names():
    model = network()
    for names, message in [
        (["conw"], "`names`: 'network' has no layer 'conw'. Did you mean 'conv'"),
        (["stage/cnov"], "Did you mean 'stage/conv'"),
        (["hed:1.input"], "Did you mean 'head'"),
        (["age/conv"], "has no layer 'age/conv'"),
        ("conv", "expected a list of layers' names"),
        ([3], "expected a list of layers' names"),
    ]:
        with pytest.raises(ValueError, match=message):
            Taps(model, names)
    stages = [keras.Sequential([layers.Dense(6, name="dense")], name=name) for name in "ab"]
    with pytest.raises(ValueError, match="'dense' is ambiguous: 'a/dense' or 'b/dense'. Give the whole path"):
        Taps(keras.Sequential([keras.Input((6,)), *stages]), ["dense"])


def test_a_name_with_a_dot_and_a_colon_of_its_own():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, name="block.input"), layers.Dense(4, name="b:0"), layers.Dense(3)])
    assert [tuple(value.shape) for value in read(model, ["block.input", "block.input.input", "b:0", "b:0:0.input"], X)] == [
        (4, 5), (4, 6), (4, 4), (4, 5)]  # fmt: skip


def test_what_none_cannot_tell():
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    inputs = keras.Input((6,))
    for model, example, message in [
        (
            keras.Sequential([keras.Input((6,)), layers.Flatten(), layers.Dense(3, name="only")]),
            None,
            "'only', takes the model's own input",
        ),
        (
            keras.Sequential([keras.Input((6,)), layers.Reshape((6, 1)), layers.Bidirectional(layers.LSTM(2))]),
            None,
            "the model's own input",
        ),
        (keras.Model(inputs, layers.Dense(2)(inputs) + layers.Dense(2)(inputs)), None, "one last layer with a kernel"),
        (keras.Sequential([keras.Input((6,)), layers.Dropout(0.5), layers.ReLU()]), None, "one last layer with a kernel"),
        (Own(), None, "'own', which has no graph. Name a layer, or give `example`"),
        (Own(), X, "takes the model's own input"),
    ]:
        with pytest.raises(ValueError, match=message):
            Taps(model, [None], example)


# ─ what cannot be read


def test_what_a_pass_does_not_give():
    inputs = keras.Input((5, 6))
    sequence, *states = layers.LSTM(3, return_sequences=True, return_state=True, name="lstm")(inputs)
    twice = layers.Dense(3, name="twice")
    y = twice(twice(layers.Concatenate(name="join")([sequence, sequence[:, :, :1]])[:, :, :3]))
    model = keras.Model(inputs, [y, *states])
    x = tf.ones((2, 5, 6))
    for name, message in [
        ("twice", "Taps: 'twice' was called 2 times; say which: 'twice:0' or 'twice:1'"),
        ("twice:2.input", "was called 2 times; say which: 'twice:0.input' or 'twice:1.input'. Received: call 2"),
        ("lstm", "'lstm' gives 3 values, not one tensor"),
        ("join.input", "'join' takes 2 values, not one tensor"),
    ]:
        with pytest.raises(ValueError, match=message):
            read(model, [name], x)
    for name in ("lstm_cell", "lstm_cell.input"):  # Keras calls a cell once before the loop too
        with pytest.raises(ValueError, match="'lstm/lstm_cell' runs inside a loop, whose tensors cannot be had outside"):
            tf.function(lambda name=name: read(model, [name], x))()

    class Sometimes(keras.Model):
        def __init__(self):
            super().__init__()
            self.extra, self.head = layers.Dense(2, name="extra"), layers.Dense(2, name="head")

        def call(self, x, training=False):
            return self.head(self.extra(x) if training else x[:, :2])

    model = Sometimes()
    model(X, training=True)
    assert read(model, ["extra"], X, training=True)[0].shape == (4, 2)
    with pytest.raises(ValueError, match="'extra' was not called: is it used only in training"):
        read(model, ["extra"], X)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_layer_in_a_vectorized_loop_is_refused(compiled):
    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, layers.TimeDistributed(layers.Dense(3, name="each"), name="time")(inputs))
    step = tf.function(lambda x: read(model, ["each"], x), input_signature=[tf.TensorSpec((5, None, 6))], jit_compile=compiled)
    with pytest.raises(ValueError, match="'time/each' runs inside a loop"):
        step(tf.ones((5, 5, 6)))
    step = tf.function(lambda x: read(model, ["time"], x)[0], input_signature=[tf.TensorSpec((5, None, 6))], jit_compile=compiled)
    np.testing.assert_allclose(step(tf.ones((5, 5, 6))), model(tf.ones((5, 5, 6))), rtol=1e-5)


def test_order_of_use():
    model = network()
    taps = Taps(model, ["conv"])
    with pytest.raises(RuntimeError, match="inside `with taps:` alone"):
        taps.start()
    with taps:
        with pytest.raises(RuntimeError, match="call `start\\(\\)` right before"):
            taps.values()
        taps.start()
        model(IMAGES)
        taps.start()
        with pytest.raises(ValueError, match="'conv' was not called"):
            taps.values()
        traced = tf.function(model)
        traced(IMAGES)
        taps.start()
        traced(IMAGES)  # runs no Python
        with pytest.raises(ValueError, match="'conv' was not called"):
            taps.values()
        found = []
        thread = threading.Thread(target=lambda: found.append(read(model, ["conv"], IMAGES * 2)))
        thread.start()
        thread.join()
        model(IMAGES)
        np.testing.assert_array_equal(taps.values()[0], model.get_layer("conv")(IMAGES))
    assert len(found) == 1
    with taps, pytest.raises(RuntimeError):
        taps.values()  # what an earlier `with` recorded is gone


# ─ the model is as before


def test_the_model_is_as_before_whatever_happens(tmp_path):
    model = network()
    own = model.get_layer("pool")
    model.save(tmp_path / "before.keras")  # Keras notes something on the model at its first save
    vars(own)["call"] = mine = own.call
    model(IMAGES)
    before = state(model)
    names = ["conv", "stage/conv", "shared:0", "pool", "soft", "stage", None]
    names += [operation.name for operation in model.get_layer("stage").operations if not isinstance(operation, keras.Layer)]
    with pytest.raises(KeyError), Taps(model, names) as taps:
        taps.start()
        model(IMAGES)
        taps.values()
        assert vars(own)["call"] is not mine and "call" in vars(model.get_layer("conv"))
        model.save(tmp_path / "inside.keras")  # as a checkpoint of a running fit is
        raise KeyError
    assert state(model) == before and vars(own)["call"] is mine
    del vars(own)["call"]
    copy = copy_model(model)
    model.save(tmp_path / "model.keras")
    for twin in (copy, *(keras.saving.load_model(tmp_path / f"{name}.keras") for name in ("model", "inside"))):
        np.testing.assert_allclose(twin(IMAGES), model(IMAGES), rtol=1e-6)
        np.testing.assert_allclose(read(twin, ["stage/conv"], IMAGES)[0], read(model, ["stage/conv"], IMAGES)[0], rtol=1e-6)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_several_taps_on_shared_layers_unwind_in_any_order(order):
    model = network()
    other = keras.Model(model.inputs, model.get_layer("pool").output)
    model(IMAGES)
    before = state(model)
    several = [Taps(model, ["conv", "pool"]), Taps(other, ["pool", "conv"]), Taps(model, ["pool", "head"])]
    for taps in several:
        taps.__enter__()
        taps.start()
    with several[0]:  # the same once more
        model(IMAGES)
    left = list(several)
    for place in order:
        (pool, *_) = (several[place].values()[1 if place == 0 else 0],)
        for taps in left:
            assert taps.values()[1 if taps is several[0] else 0] is pool
        several[place].__exit__(None, None, None)
        left.remove(several[place])
    assert state(model) == before


def test_other_wrappers_may_come_and_go_inside():
    model = network()
    model(IMAGES)
    before = state(model)
    with Taps(model, ["conv"]) as taps:
        with watching(model) as calls:
            taps.start()
            model(IMAGES)
        assert any(call.layer.name == "conv" for call in calls)
        assert taps.values()[0].shape == (3, 8, 8, 2)
    assert state(model) == before


# ─ training


class Learner(keras.Model):
    """Draws a student's features to a teacher's, read in the same step."""

    def __init__(self, student, teacher, taps, teacher_taps):
        super().__init__()
        self.student, self.held = student, (lambda: teacher)
        self.taps, self.teacher_taps = taps, teacher_taps

    def call(self, x, training=None):
        self.taps.start()
        return self.student(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        self.teacher_taps.start()
        self.held()(x, training=False)
        pairs = zip(self.taps.values(), self.teacher_taps.values(), strict=True)
        return sum(keras.ops.mean((keras.ops.stop_gradient(wanted) - value) ** 2) for value, wanted in pairs)


def digits_model(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    y = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    y = keras.Sequential([layers.Flatten(), layers.BatchNormalization(), layers.Dense(8, name="features")], name="body")(y)
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.ReLU(name="relu")(y)))


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # for the head, which no feature comes after
@pytest.mark.parametrize("how", [{"run_eagerly": True}, {}, {"jit_compile": True, "steps_per_execution": 2}])
def test_fit_learns_from_features_in_every_kind_of_graph(how):
    x = load("digits", labels=200).train.x[:96]
    teacher, student = digits_model(1), digits_model(2)
    names = ["conv", "body/features", None]
    with Taps(student, names) as taps, Taps(teacher, names) as teacher_taps:
        learner = Learner(student, teacher, taps, teacher_taps)
        learner.compile(keras.optimizers.Adam(0.01), loss=None, **how)
        before = {weight.path: weight.numpy() for weight in student.weights}
        history = learner.fit(x, np.zeros(len(x)), batch_size=16, epochs=2, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < 0.7 * history.history["loss"][0]
    moved = {path: np.abs(weight.numpy() - before[path]).max() for weight in student.weights for path in [weight.path]}
    assert moved.pop(student.get_layer("head").kernel.path) == moved.pop(student.get_layer("head").bias.path) == 0
    assert min(moved.values()) > 0
    assert not any("call" in vars(layer) for model in (student, teacher) for layer in model._flatten_layers())


def test_gradients_flow_to_the_layers_before_alone():
    model = digits_model(0)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = keras.ops.sum(read(model, ["body"], x)[0] ** 2)
        return tape.gradient(loss, model.trainable_variables)

    gradients = dict(zip([weight.path for weight in model.trainable_variables], step(tf.constant(IMAGES)), strict=True))
    without = [path for path, gradient in gradients.items() if gradient is None]
    assert without == [weight.path for weight in model.get_layer("head").trainable_variables]
    assert all(np.abs(gradient).max() > 0 for path, gradient in gradients.items() if path not in without and "gamma" in path)


MIRRORED = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from kdfuse.graph.taps import Taps

class Learner(keras.Model):
    def __init__(self, student):
        super().__init__()
        self.student, self.taps = student, Taps(student, ["hidden", None])
    def call(self, x):
        self.taps.start()
        return self.student(x)
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        hidden, features = self.taps.values()
        return keras.ops.mean((hidden - y[:, None]) ** 2) / tf.distribute.get_strategy().num_replicas_in_sync

def train(strategy, **how):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        layers = [keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.ReLU(), keras.layers.Dense(2)]
        learner = Learner(keras.Sequential(layers))
        learner.compile(keras.optimizers.SGD(0.1), loss=None, **how)
        with learner.taps:
            x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
            learner.fit(x, x[:, 0], batch_size=8, epochs=2, shuffle=False, verbose=0)
    return np.concatenate([weight.ravel() for weight in learner.get_weights()])

two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert two.num_replicas_in_sync == 2
one = train(tf.distribute.OneDeviceStrategy("CPU:0"))
print(np.abs(train(two) - one).max())

# Several steps in one graph, and eager ones. (Keras's own loop over steps does not run on two logical CPUs, nor does XLA.)
with two.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)])
def replica():
    x = tf.ones((2, 4)) * (1.0 + tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, "float32"))
    taps.start()
    model(x)
    return taps.values()[0]
def eager():
    return two.experimental_local_results(two.run(replica))
@tf.function
def loop():
    body = lambda step, *before: (step + 1, *eager())
    return tf.while_loop(lambda step, *before: step < 2, body, (0, tf.zeros((2, 3)), tf.zeros((2, 3))))[1:]
with Taps(model, ["hidden"]) as taps:
    for run in (loop, eager):
        for place, value in enumerate(run()):
            print(np.abs(value.numpy() - (place + 1.0) * model.layers[0].kernel.numpy().sum(0)).max())
"""


def test_replicas_read_their_own_pass():
    done = subprocess.run([sys.executable, "-c", MIRRORED], capture_output=True, text=True, env=dict(os.environ), timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    differences = [float(line) for line in done.stdout.split()]
    assert len(differences) == 5 and max(differences) < 1e-6, differences
