import keras
import numpy as np
import pytest

from kdfuse.graph.follow import describe, follow
from kdfuse.graph.nodes import graph_of

layers = keras.layers


class Own(keras.Model):
    def __init__(self, name="own", **kwargs):
        super().__init__(name=name, **kwargs)
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def test_a_model_without_a_graph_is_refused_with_a_way_on():
    model = Own()
    model(np.zeros((1, 2), "float32"))
    assert graph_of(model) is None
    with pytest.raises(ValueError, match=r"'own' \(Own\) has no graph.*functional API"):
        follow(model)


def test_a_part_of_the_graph_that_is_not_followed_stays_and_the_rest_goes(oracle):
    part = Own()
    i = keras.Input((4,))
    model = keras.Model(i, layers.Dense(2)(layers.Dense(6, name="b")(part(layers.Dense(8, name="a")(layers.Dense(8, name="free")(i))))))
    small = oracle(model, np.random.default_rng(0).normal(size=(3, 4)).astype("float32"))
    assert (small.get_layer("free").units, small.get_layer("a").units, small.get_layer("b").units) == (4, 8, 3)
    rows = {row["layer"]: row for row in describe(oracle.channels)}
    assert rows["a"]["protected"] == "read by 'own' (Own): layers of its kind are not followed"
    assert rows["free"] == {"layer": "free", "kind": "Dense", "units": 8, "protected": ""}


def test_protected_layers_by_name_and_path(oracle):
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="hidden"), layers.Dense(8, name="last")], name="inner")
    i = keras.Input((4,))
    model = keras.Model(i, layers.Dense(2, name="head")(inner(layers.Dense(8, name="first")(i))))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    small = oracle(model, x, protect=("first", "inner/hidden"))
    assert small.get_layer("first").units == 8 and small.get_layer("inner").get_layer("hidden").units == 8
    assert small.get_layer("inner").get_layer("last").units == 4
    with pytest.raises(ValueError, match="`protect`: no layer 'hiden'"):
        follow(model, ("hiden",))
    with pytest.raises(ValueError, match="`protect`: no layer 'inner'"):
        follow(model, ("inner",))


def test_each_step_of_time(oracle):
    i = keras.Input((3, 6, 6, 2))
    x = layers.TimeDistributed(layers.Conv2D(6, 3, activation="relu"), name="conv")(layers.TimeDistributed(layers.Conv2D(8, 1))(i))
    x = layers.TimeDistributed(layers.GlobalMaxPooling2D())(layers.TimeDistributed(layers.BatchNormalization())(x))
    model = keras.Model(i, layers.Dense(2)(layers.LSTM(4)(x)))
    small = oracle(model, np.random.default_rng(0).normal(size=(2, 3, 6, 6, 2)).astype("float32"))
    assert small.get_layer("conv").layer.filters == 3
    nested = keras.Sequential([keras.Input((4,)), layers.Dense(5)])
    i = keras.Input((3, 4))
    rows = describe(follow(keras.Model(i, layers.Dense(2)(layers.TimeDistributed(nested)(layers.Dense(4, name="before")(i))))))
    assert "what it holds is not followed" in rows[0]["protected"]


def test_a_visitor_sees_each_step():
    seen = []

    def visit(use, made):
        seen.append((use.path, [len(trail.ids) for trail in made]))
        return made

    i = keras.Input((4,))
    follow(keras.Model(i, layers.Dense(2, name="b")(layers.Dense(6, name="a")(i))), visit=visit)
    assert seen == [("a", [6]), ("b", [2])]


def test_a_mask_for_each_head_and_bounds_for_each_channel_are_not_followed():
    i, mask = keras.Input((5, 8)), keras.Input((2, 5, 5), dtype="bool")
    x = layers.Dense(8, name="d")(i)
    model = keras.Model([i, mask], layers.Dense(2)(layers.MultiHeadAttention(2, 4, name="a")(x, x, attention_mask=mask)))
    told = {(row["layer"], row["kind"]): row["protected"] for row in describe(follow(model))}
    assert any("a mask for each head" in why for (layer, _), why in told.items() if layer == "a")
    i = keras.Input((6,))
    bounds = np.arange(4, dtype="float32")
    clipped = keras.Model(i, layers.Dense(2)(keras.ops.clip(layers.Dense(4, name="d")(i), -bounds, bounds)))
    assert "bounds of its own" in {row["layer"]: row["protected"] for row in describe(follow(clipped))}["d"]
