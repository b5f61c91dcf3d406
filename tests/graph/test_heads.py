import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.graph.heads import HEADS, detect_head, known_head, probabilities, raw_outputs, to_logits

layers, ops = keras.layers, keras.ops


def rows(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype("float32")


def log_softmax(z):
    z = z.astype("float64")
    return z - z.max(-1, keepdims=True) - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))


def ends(*last, units=5):
    return keras.Sequential([keras.Input((4,)), layers.Dense(units), *last])


def nested():
    return keras.Sequential(
        [keras.Input((4,)), keras.Sequential([layers.Dense(6), keras.Sequential([layers.Dense(5, activation="softmax")])])]
    )


def functional(*after):
    x = inputs = keras.Input((4,))
    x = layers.Dense(5, activation="softmax")(x)
    for layer in after:
        x = layer(x)
    return keras.Model(inputs, x)


def time_distributed():
    inputs = keras.Input((3, 4))
    return keras.Model(inputs, layers.TimeDistributed(layers.Dense(5, activation="softmax"))(inputs))


class Subclassed(keras.Model):
    def __init__(self, activation=None, units=5):
        super().__init__()
        self.out = layers.Dense(units, activation=activation)

    def call(self, inputs):
        return self.out(inputs)


class Plain(Subclassed):
    """Its softmax is no layer."""

    def call(self, inputs):
        return ops.softmax(self.out(inputs) * 3)


SWAPPED = {
    "fused": lambda: ends(layers.Dense(5, activation="softmax")),
    "activation layer": lambda: ends(layers.Activation("softmax")),
    "softmax layer": lambda: ends(layers.Softmax()),
    "conv": lambda: keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(5, 3, activation="softmax")]),
    "nested": nested,
    "functional": functional,
    "cast after": lambda: functional(layers.Activation("linear", dtype="float32")),
    "nested functional": lambda: keras.Sequential([keras.Input((4,)), functional()]),
    "time distributed": time_distributed,
}


def weights_of(model):
    for weight in model.weights:
        weight.assign(rows(*weight.shape, seed=len(weight.shape), scale=3))
    return model


@pytest.mark.parametrize("kind", SWAPPED)
def test_softmax_is_found_taken_out_and_put_back(kind):
    model = weights_of(SWAPPED[kind]())
    x = rows(6, *model.input_shape[1:], scale=3)
    before = model(x).numpy()
    assert detect_head(model, "classification") == "softmax"
    with raw_outputs(model) as raw:
        assert raw is True
        inside = model(x)
        logits = to_logits(inside, "softmax", raw)
    np.testing.assert_array_equal(model(x), before)
    assert not np.allclose(inside, before)
    np.testing.assert_allclose(ops.softmax(logits), before, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_raw_logits_are_the_true_ones_up_to_a_shift(scale):
    true = rows(40, 5, scale=scale)
    model = keras.Sequential([keras.Input((5,)), layers.Dense(5, activation="softmax", kernel_initializer="identity")])
    with raw_outputs(model) as raw:
        found = to_logits(model(true), "softmax", raw).numpy()
    np.testing.assert_allclose(log_softmax(found), log_softmax(true), rtol=1e-5, atol=1e-5)


def test_logits_from_probabilities_end_at_float32():
    true = np.array([[0.0, -60.0, -200.0]], "float32")
    found = to_logits(ops.softmax(true), "softmax").numpy()
    np.testing.assert_allclose(found[0, :2], true[0, :2], rtol=1e-5)
    assert -88 < found[0, 2] < -87 and np.isfinite(found).all()


def test_raw_outputs_nest_and_survive_exceptions():
    model = functional()
    x = rows(3, 4)
    before = model(x).numpy()
    with pytest.raises(RuntimeError, match="on purpose"), raw_outputs(model):
        with raw_outputs(model):
            pass
        assert not np.allclose(model(x), before)  # the inner one has left, the outer one holds
        raise RuntimeError("on purpose")
    np.testing.assert_array_equal(model(x), before)


def test_raw_outputs_inside_a_tf_function():
    model = functional()
    x = rows(3, 4)

    @tf.function
    def both(x):
        with raw_outputs(model) as raw:
            logits = to_logits(model(x), "softmax", raw)
        return logits, model(x)

    logits, probability = both(x)
    np.testing.assert_allclose(tf.nn.softmax(logits), probability, atol=1e-6)
    np.testing.assert_allclose(probability, model(x), atol=1e-7)
    assert logits.numpy().min() < 0


def test_the_given_model_compiles_and_predicts_as_before():
    model = functional()
    model.compile("sgd", "mse")
    x = rows(3, 4)
    before = model.predict(x, verbose=0)
    with raw_outputs(model):
        model(x)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def used_twice():
    last = layers.Dense(4, activation="softmax")
    x = inputs = keras.Input((4,))
    return keras.Model(inputs, last(last(x)))


def read_elsewhere():
    x = inputs = keras.Input((4,))
    p = layers.Dense(4, activation="softmax")(x)
    return keras.Model(inputs, [p, layers.Dense(2)(p)])


def given_twice():
    x = inputs = keras.Input((4,))
    p = layers.Dense(4, activation="softmax")(x)
    return keras.Model(inputs, [p, layers.Activation("linear")(p)])


def inside_a_model_called_twice():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, activation="softmax")])
    inputs = keras.Input((4,))
    return keras.Model(inputs, inner(inner(inputs)))


def an_operation():
    inputs = keras.Input((4,))
    return keras.Model(inputs, ops.softmax(layers.Dense(4)(inputs)))


@pytest.mark.parametrize(
    "build", [used_twice, read_elsewhere, given_twice, inside_a_model_called_twice, an_operation], ids=lambda b: b.__name__
)
def test_a_shared_end_is_left_alone(build):
    model = build()
    x = rows(3, 4)
    before = keras.tree.flatten(model(x))[0].numpy()
    with raw_outputs(model) as raw:
        first = keras.tree.flatten(raw)[0]
        inside = keras.tree.flatten(model(x))[0]
    assert first is False
    np.testing.assert_array_equal(inside, before)
    np.testing.assert_allclose(ops.softmax(to_logits(inside, "softmax", first)), before, atol=1e-6)


def test_masked_softmax_layer():
    inputs, mask = keras.Input((3,)), keras.Input((3,), dtype="bool")
    model = keras.Model([inputs, mask], layers.Softmax()(inputs, mask=mask))
    x, m = rows(2, 3), np.array([[True, False, True], [True, True, True]])
    with raw_outputs(model) as raw:
        logits = to_logits(model([x, m]), "softmax", raw)
    np.testing.assert_allclose(ops.softmax(logits), model([x, m]), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_float32_logits(policy):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="softmax", dtype=policy)])
    x = rows(3, 4)
    with raw_outputs(model) as raw:
        logits = to_logits(model(x), "softmax", raw)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(ops.softmax(logits), ops.cast(model(x), "float32"), atol=2e-2)
    assert np.isfinite(to_logits(model(x * 1e3), "softmax")).all()


@pytest.mark.parametrize("raw", [True, False])
def test_sigmoid_becomes_two_classes(raw):
    z = rows(8, 1, scale=5)
    given = z if raw else ops.sigmoid(z)
    found = to_logits(given, "sigmoid", raw).numpy()
    assert found.shape == (8, 2)
    np.testing.assert_allclose(found[:, 1] - found[:, 0], z[:, 0], rtol=1e-3, atol=1e-4)
    several = to_logits(ops.concatenate([given] * 3, axis=-1), "sigmoid", raw).numpy()
    assert several.shape == (8, 3, 2)
    np.testing.assert_allclose(several[:, 1], found)


def test_sigmoid_at_its_ends_is_finite():
    found = to_logits(np.array([[0.0], [1.0]], "float32"), "sigmoid").numpy()
    np.testing.assert_allclose(found[:, 1], [-87.34, 17.33], atol=0.01)


def test_one_column_of_logits_is_two_classes():
    np.testing.assert_array_equal(to_logits(np.array([[2.0], [-1.0]], "float32"), "logits"), [[0, 2], [0, -1]])


def test_structures():
    outputs = {"a": rows(3, 2), "b": rows(3, 1)}
    found = to_logits(outputs, {"a": "logits", "b": "regression"}, {"a": True, "b": False})
    np.testing.assert_array_equal(found["a"], outputs["a"])
    assert found["b"].shape == (3, 1)
    assert isinstance(to_logits((outputs["a"], outputs["b"]), "logits"), tuple)


def test_probabilities_match_numpy():
    z = rows(5, 4, scale=60)
    np.testing.assert_allclose(probabilities(z, "logits"), np.exp(log_softmax(z)), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(probabilities(z, "sigmoid_logits"), 1 / (1 + np.exp(-z.astype("float64"))))
    np.testing.assert_allclose(probabilities(z[:, :1], "logits"), 1 / (1 + np.exp(-z[:, :1].astype("float64"))))
    assert np.isfinite(probabilities(np.array([[1e6, -1e6]]), "logits")).all()
    with pytest.raises(ValueError, match="no probabilities"):
        probabilities(z, "regression")


@pytest.mark.parametrize(
    ("model", "task", "expected"),
    [
        (lambda: ends(layers.Dense(3)), "classification", "logits"),
        (lambda: ends(layers.Dense(3, activation="log_softmax")), "classification", "logits"),
        (lambda: ends(layers.Dense(1, activation="sigmoid")), "binary", "sigmoid"),
        (lambda: ends(layers.Dense(1)), "binary", "logits"),
        (lambda: ends(layers.Dense(3)), "multilabel", "sigmoid_logits"),
        (lambda: ends(layers.Dense(3, activation="sigmoid")), "multilabel", "sigmoid"),
        (lambda: ends(layers.Dense(3)), "regression", "regression"),
        (lambda: ends(layers.Dense(3, activation="sigmoid")), "regression", "regression"),
        (lambda: ends(layers.LayerNormalization()), "regression", "regression"),
        (an_operation, "classification", "softmax"),
    ],
)
def test_heads_read_from_the_last_layer(model, task, expected):
    assert detect_head(model(), task) == expected in HEADS


@pytest.mark.parametrize(
    ("model", "task", "expected"),
    [
        (lambda: Subclassed("softmax"), "classification", "softmax"),
        (lambda: Subclassed(), "classification", "logits"),
        (lambda: Subclassed("sigmoid", 1), "binary", "sigmoid"),
        (lambda: Subclassed(units=1), "binary", "logits"),
        (Plain, "classification", "softmax"),
        (lambda: ends(layers.Lambda(lambda t: ops.sigmoid(t)), units=2), "multilabel", "sigmoid"),
        (lambda: keras.Sequential([layers.Dense(3, activation="softmax")]), "classification", "softmax"),
    ],
)
def test_heads_found_with_an_example(model, task, expected):
    model = model()
    assert detect_head(model, task, rows(16, 4)) == expected


def test_subclassed_is_seen_through_with_an_example():
    model, x = Subclassed("softmax"), rows(4, 4)
    before = model(x).numpy()
    with raw_outputs(model) as raw:
        assert raw is False
    with raw_outputs(model, x) as raw:
        assert raw is True
        np.testing.assert_allclose(ops.softmax(model(x)), before, atol=1e-6)
    np.testing.assert_array_equal(model(x), before)
    with raw_outputs(Plain(), x) as raw:
        assert raw is False


def test_several_outputs():
    x = inputs = keras.Input((4,))
    outputs = {
        "digit": layers.Dense(3, activation="softmax")(x),
        "age": layers.Dense(1)(x),
        "tags": layers.Dense(2, activation="sigmoid")(x),
    }
    model = keras.Model(inputs, outputs)
    task = {"digit": "classification", "age": "regression", "tags": "multilabel"}
    head = detect_head(model, task)
    assert head == {"digit": "softmax", "age": "regression", "tags": "sigmoid"}
    with raw_outputs(model) as raw:
        assert raw == {"digit": True, "age": False, "tags": True}
    listed = keras.Model(inputs, [outputs["digit"], outputs["age"]])
    assert detect_head(listed, ("classification", "regression")) == ["softmax", "regression"]
    with pytest.raises(ValueError, match=r"output 'digit'.*softmax.*logits"):
        detect_head(model, task, declared={"digit": "logits", "age": "auto", "tags": "auto"})
    with pytest.raises(ValueError, match="expected one for each"):
        detect_head(model, {"digit": "classification"})


@pytest.mark.parametrize(
    ("model", "task", "declared", "message"),
    [
        (functional, "classification", "logits", r"softmax.*Received: head='logits'.*head='softmax'"),
        (lambda: ends(), "classification", "softmax", r"linear.*head='logits'"),
        (functional, "classification", "sigmoid", "softmax"),
        (functional, "classification", "regression", "not a regression"),
        (lambda: ends(), "regression", "softmax", "is a regression"),
        (lambda: ends(layers.Dense(1, activation="softmax")), "binary", "auto", "always 1"),
        (lambda: ends(), "classification", "logit", "Did you mean 'logits'"),
        (Plain, "classification", "logits", "look like a softmax"),
    ],
)
def test_contradictions_are_errors(model, task, declared, message):
    with pytest.raises(ValueError, match=message):
        detect_head(model(), task, rows(4, 4), declared)


def test_what_does_not_tell_wants_an_example():
    with pytest.raises(ValueError, match="`example`"):
        detect_head(Subclassed(), "classification")


def test_a_known_head_is_not_looked_for():
    model = ends(layers.Lambda(lambda z: ops.round(8 * ops.softmax(z)) / 8))
    assert detect_head(model, "classification", rows(16, 4)) == "sigmoid"
    with known_head(model, "softmax"):
        assert detect_head(model, "classification", rows(16, 4)) == "softmax" and detect_head(ends(), "classification") == "logits"
    assert detect_head(model, "classification", rows(16, 4)) == "sigmoid"
