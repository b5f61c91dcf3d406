import keras
import numpy as np
import pytest

from kdfuse.graph.deepen import deepen, find_hosts
from kdfuse.graph.follow import follow

layers = keras.layers
X = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype("float32")


def hosts(model, protect=()):
    found, others = find_hosts(model, follow(model), protect)
    return [host.path for host in found], others


def deepened(build):
    model, _ = build()
    return deepen(model, find_hosts(model, follow(model))[0])[0]


def outputs(model, x):
    return [np.asarray(one) for one in keras.tree.flatten(model(x, training=False))]


def residual():
    i = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, (3, 2), strides=2, name="stem")(i)))
    y = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", name="branch")(x))
    x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.Dense(5, "tanh", name="tanh")(layers.Flatten()(x))
    return keras.Model(i, [layers.Dense(4, "relu", name="end")(keras.ops.relu(layers.Dense(7, name="op")(x))), x]), X


def sequences():
    i = keras.Input((8, 3))
    x = layers.Conv1D(6, 4, padding="causal", activation="relu", use_bias=False, name="causal")(i)
    x = layers.Conv1D(5, 2, activation="relu6", name="even")(x)
    return keras.Model(i, layers.Dense(2)(layers.ReLU(negative_slope=0.1)(layers.Dense(4, name="leaky")(x)))), X[:, 0]


def nested_and_shared():
    j = keras.Input((8,))
    shared = layers.Dense(8, "relu", name="shared", kernel_regularizer="l2")
    inner = keras.Model(j, shared(shared(j)), name="inner")
    stack = keras.Sequential([layers.Dense(7, "relu", name="a"), layers.Dropout(0.2), layers.Dense(6, "relu", name="b")], name="stack")
    i = keras.Input((8,))
    return keras.Model(i, stack(inner(layers.Dense(8, name="first")(i)))), X[:, 0, :, :1].repeat(8, -1)[..., 0]


BUILDERS = {
    residual: (["stem", "branch", "op"], []),
    sequences: (["causal", "even"], ["leaky"]),
    nested_and_shared: (["inner/shared", "stack/a"], ["first"]),
}


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("count", [1, 2])
def test_the_deep_model_computes_the_same(build, count, tmp_path):
    model, x = build()
    before = model.get_weights()
    found, others = find_hosts(model, follow(model))
    assert ([host.path for host in found], others) == BUILDERS[build]
    deep, names = deepen(model, found, count)
    assert names == [f"{host.like.name}_deeper_{number}" for host in found for number in range(1, count + 1)]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    deep.save(tmp_path / "deep.keras")
    for one in (deep, keras.models.load_model(tmp_path / "deep.keras")):
        assert one.count_params() > model.count_params()
        for a, b in zip(outputs(model, x), outputs(one, x), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    again, more = deepen(deep, find_hosts(deep, follow(deep))[0])
    assert len(more) == len(names) + len(found) and not set(more) & set(names)
    np.testing.assert_allclose(outputs(again, x)[0], outputs(model, x)[0], atol=1e-6)


def test_new_layers_are_like_their_host():
    deep = deepened(residual)
    new = deep.get_layer("stem_deeper_1")
    assert new.kernel_size == (3, 2) and new.strides == (1, 1) and new.filters == 6 and new.padding == "same"
    deep = deepened(sequences)
    assert deep.get_layer("causal_deeper_1").padding == "causal" and not deep.get_layer("causal_deeper_1").use_bias
    assert deep.get_layer("even_deeper_1").activation is keras.activations.relu6
    deep = deepened(nested_and_shared)
    assert deep.get_layer("inner").get_layer("shared_deeper_1").kernel_regularizer is not None
    assert [one.name for one in deep.get_layer("stack").layers][:2] == ["a", "a_deeper_1"]


def test_protected_layers_get_none_behind_them():
    assert hosts(residual()[0], ["branch"]) == (["stem", "op"], [])
    assert hosts(nested_and_shared()[0], ["shared", "first"]) == (["stack/a"], [])
