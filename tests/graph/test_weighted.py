import keras
import numpy as np
import pytest

from kdfuse.graph.follow import describe, follow

layers = keras.layers
RNG = np.random.default_rng(1)


def model(build, *shape):
    i = keras.Input(shape)
    return keras.Model(i, build(i)), RNG.normal(size=(2, *shape)).astype("float32")


def between(*stack):
    """Layers between a Dense layer and a Dense head."""

    def build(i):
        x = layers.Dense(8, name="before")(i)
        for layer in stack:
            x = layer(x)
        return layers.Dense(2)(layers.Flatten()(x))

    return build


CASES = {
    "conv1d": ((layers.Conv1D(6, 3, padding="causal", activation="relu"), layers.Conv1DTranspose(4, 3)), (6, 3), 3),
    "conv3d": ((layers.Conv3D(6, 2), layers.Conv3DTranspose(4, 2)), (3, 3, 3, 3), 3),
    "depthwise1d": ((layers.DepthwiseConv1D(3, depth_multiplier=2), layers.SeparableConv1D(4, 2)), (6, 3), 2),
    "groups": ((layers.Conv2D(12, 1, groups=4, activation="relu"), layers.Conv2D(6, 2, groups=2)), (4, 4, 3), 3),
    "groups of one": ((layers.Conv2D(16, 2, groups=8), layers.Conv2D(5, 1)), (4, 4, 3), 2),
    "group norm of one": ((layers.GroupNormalization(groups=-1), layers.GroupNormalization(groups=8)), (4, 3), 1),
    "batch norm": ((layers.BatchNormalization(scale=False), layers.BatchNormalization(center=False)), (4, 3), 1),
    "prelu": ((layers.PReLU(), layers.PReLU(shared_axes=[1]), layers.PReLU(shared_axes=[1, 2])), (4, 3), 1),
    "einsum": (
        (layers.EinsumDense("abc,cd->abd", (4, 6), bias_axes="bd"), layers.EinsumDense("...x,xy->...y", 4, bias_axes="y")),
        (4, 3),
        3,
    ),
    "einsum over two axes": ((layers.EinsumDense("abc,bcd->ad", 6), layers.Dense(4)), (4, 3), 3),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_of_every_kind(case, oracle):
    stack, shape, kinds = CASES[case]
    keras.utils.set_random_seed(0)
    small = oracle(*model(between(*stack), *shape))
    assert sum(row["protected"] == "" for row in describe(oracle.channels)) == kinds
    assert small.get_layer("before").units == 4


def test_groups_keep_equally_many_though_other_ones(oracle):
    made, x = model(
        lambda i: layers.GlobalMaxPooling2D()(layers.Conv2D(6, 1)(layers.Conv2D(8, 1, groups=2)(layers.Conv2D(8, 1, name="a")(i)))), 4, 4, 3
    )
    small = oracle(made, x, seed=3)
    kept = [place for place, one in enumerate(made.get_layer("a").kernel.numpy().T.reshape(8, -1))
            if any(np.array_equal(one, other) for other in small.get_layer("a").kernel.numpy().T.reshape(-1, 3))]  # fmt: skip
    assert len(kept) == 4 and sum(place < 4 for place in kept) == 2 and kept[:2] != [place - 4 for place in kept[2:]]


def test_groups_that_cannot_be_counted_apart_are_united(oracle):
    def build(i):
        x, y = layers.Conv2D(8, 1)(i), layers.Conv2D(4, 1)(i)
        return layers.Dense(2)(layers.Flatten()(layers.Conv2D(6, 1, groups=2)(layers.Concatenate()([x, y]))))

    oracle(*model(build, 4, 4, 3))


def test_an_embedding_makes_units_and_its_table_stays_as_long(oracle):
    i = keras.Input((5,), dtype="int32")
    made = keras.Model(i, layers.Dense(2)(layers.Flatten()(layers.Embedding(9, 8, name="table", mask_zero=True)(i))))
    small = oracle(made, RNG.integers(0, 9, (3, 5)))
    assert small.get_layer("table").embeddings.shape == (9, 4)


def test_channels_read_along_another_axis_stay(oracle):
    made, x = model(
        lambda i: layers.Dense(2)(layers.Flatten()(layers.Dense(6)(layers.Permute((2, 1))(layers.Dense(8, name="before")(i))))), 4, 3
    )
    small = oracle(made, x)
    assert small.get_layer("before").units == 8
    assert "along another axis" in describe(oracle.channels)[0]["protected"]


STAY = {
    "softmax inside": (layers.Dense(8, "softmax", name="one"), "mixes channels"),
    "group norm": (layers.GroupNormalization(groups=2, name="one"), "its statistics would change"),
    "unit of statistics": (layers.BatchNormalization(axis=1, name="one"), "along another axis"),
}


@pytest.mark.parametrize("case", STAY)
def test_what_is_not_followed_stays_and_says_why(case):
    layer, why = STAY[case]
    made, _ = model(between(layer), 4, 3)
    assert any(why in row["protected"] for row in describe(follow(made)))
