import keras
import numpy as np
import pytest

from kdfuse.graph.families import families
from kdfuse.graph.follow import follow
from kdfuse.graph.widen import draw_copies, widen

layers = keras.layers
RNG = np.random.default_rng(1)


def scrambled(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        name, shape = weight.path.split("/")[-1], tuple(weight.shape)
        if name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) == 1:
            weight.assign(rng.normal(0, 0.3, shape))
    return model


def outputs(model, x):
    return [np.asarray(one) for one in keras.tree.flatten(model(x, training=False))]


def distance(one, other, x):
    pairs = list(zip(outputs(one, x), outputs(other, x), strict=True))
    return max(np.abs(a - b).max() for a, b in pairs) / max(np.abs(a).max() for a, _ in pairs)


def dense(i):
    return layers.Dense(3)(layers.Dense(10, "tanh")(layers.Dense(12, "relu")(i)))


def residual(i):
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(i)))
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x))
    return layers.Dense(4)(layers.Flatten()(layers.MaxPooling2D()(layers.Add()([x, y]))))


def joined(i):
    x = layers.Conv2D(6, 3, padding="same")(i)
    x = layers.Concatenate()([i, x, layers.Conv2D(4, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))])
    return layers.Dense(4)(layers.Flatten()(layers.Conv2D(5, 1, activation="relu")(x)))


def depthwise_in_a_sum(i):
    """The copies of the second convolution are not in the order of its units: it must follow the first."""
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(layers.Conv2D(4, 1)(i))
    x = layers.Add()([x, layers.Conv2D(8, 1)(i)])
    return layers.Dense(3)(layers.Flatten()(layers.SeparableConv2D(6, 3, depth_multiplier=2)(x)))


def channels_first_in_line(i):
    x = layers.Dense(6, "relu")(layers.Reshape((16, 3))(i))
    return layers.Dense(3)(layers.Add()([layers.Flatten()(layers.Permute((2, 1))(x)), layers.Dense(96)(layers.Flatten()(i))]))


def groups(i):
    return layers.Dense(2)(layers.Flatten()(layers.Conv2D(6, 2, groups=2)(layers.Conv2D(12, 1, groups=4)(layers.Conv2D(8, 1)(i)))))


def gates(i):
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(layers.Reshape((16, 3))(i))
    return layers.Dense(2)(layers.GRU(5)(layers.TimeDistributed(layers.Dense(6, "relu"))(x)))


def heads(i):
    x = layers.Dense(8)(layers.Reshape((16, 3))(i))
    return layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, x)])))


def shared_and_nested(i):
    shared, j = layers.Conv2D(6, 1, activation="relu"), keras.Input((4, 4, 6))
    inner = keras.Model(j, shared(layers.Conv2D(6, 3, padding="same")(shared(j))), name="inner")
    x = layers.Concatenate()([inner(inner(layers.Conv2D(6, 1)(i))), layers.Conv2D(5, 1)(i)])
    return {"a": layers.Dense(2, name="a")(layers.GlobalMaxPooling2D()(x)), "b": layers.Dense(1, name="b")(layers.Flatten()(x))}


BUILDERS = (dense, residual, joined, depthwise_in_a_sum, channels_first_in_line, groups, gates, heads, shared_and_nested)


def made(build):
    keras.utils.set_random_seed(0)
    shape = (8,) if build is dense else (4, 4, 3)
    i = keras.Input(shape)
    return scrambled(keras.Model(i, build(i))), RNG.normal(size=(3, *shape)).astype("float32")


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("width", [1.3, 3.0])
def test_the_wide_model_computes_the_same(build, width, tmp_path):
    model, x = made(build)
    before = model.get_weights()
    channels = follow(model)
    wide = widen(model, channels, draw_copies(channels, width, seed=2)).model
    assert distance(model, wide, x) < 1e-5 and wide.count_params() > 1.1 * model.count_params()
    assert [layer.name for layer in wide.layers] == [layer.name for layer in model.layers]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    wide.save(tmp_path / "wide.keras")
    assert distance(wide, keras.models.load_model(tmp_path / "wide.keras"), x) < 1e-6
    noisy = widen(model, channels, draw_copies(channels, width, seed=2), noise=1e-2, seed=0).model
    assert 1e-6 < distance(model, noisy, x) < 0.2


def test_weights_by_hand():
    model, _ = made(dense)
    channels = follow(model)
    copies = np.ones(len(channels), dtype=int)
    first = next(iter(channels.members.values())).slots["out"]
    copies[first[1]], copies[first[4]] = 3, 2
    wide, twins = widen(model, channels, copies)
    kernel, bias, after = (model.layers[1].kernel.numpy(), model.layers[1].bias.numpy(), model.layers[2].kernel.numpy())
    index = [0, 1, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11]
    count = np.array([1, 3, 3, 3, 1, 1, 2, 2, 1, 1, 1, 1, 1, 1, 1])
    assert np.array_equal(wide.layers[1].kernel, kernel[:, index]) and np.array_equal(wide.layers[1].bias, bias[index])
    np.testing.assert_allclose(wide.layers[2].kernel, after[index] / count[:, None], rtol=1e-6)
    assert twins[id(model.layers[1])] is wide.layers[1] and wide.layers[1].units == 15


def test_noise_is_a_share_of_the_kernels_deviation_and_falls_on_copies_alone():
    model, _ = made(dense)
    channels = follow(model)
    copies = draw_copies(channels, 2.0)
    exact, noisy = (widen(model, channels, copies, noise, seed=3).model.layers[1] for noise in (0.0, 0.1))
    change = noisy.kernel.numpy() - exact.kernel.numpy()
    assert not change[:, ::2].any() and np.array_equal(exact.bias, noisy.bias)
    assert change[:, 1::2].std() == pytest.approx(0.1 * model.layers[1].kernel.numpy().std(), rel=0.2)


def test_each_unit_is_copied_once_before_any_is_twice():
    model, _ = made(dense)
    channels = follow(model)
    for width, sizes in ((1.05, (13, 11)), (1.5, (18, 15)), (2.5, (30, 25))):
        copies = draw_copies(channels, width, seed=1)
        for family, size in zip(families(channels), sizes, strict=True):
            drawn = copies[list(family.roots)]
            assert drawn.sum() == size and drawn.max() - drawn.min() <= 1
    assert not np.array_equal(draw_copies(channels, 1.5, 0), draw_copies(channels, 1.5, 1))
    assert (draw_copies(channels, 1.0) == 1).all()
    assert (draw_copies(follow(model, [layer.name for layer in model.layers[1:3]]), 3.0) == 1).all()


def test_one_unit_is_broadcast_and_stays():
    i = keras.Input((8,))
    x = layers.Dense(6)(i)
    model = keras.Model(i, layers.Dense(2)(x * layers.Dense(1, "sigmoid", name="one")(x)))
    channels = follow(model)
    wide = widen(model, channels, draw_copies(channels, 2.0)).model
    assert wide.get_layer("one").units == 1 and distance(model, wide, RNG.normal(size=(3, 8)).astype("float32")) < 1e-5


def test_a_stack_stays_one_and_frozen_layers_stay_frozen():
    stack = keras.Sequential([keras.Input((8,)), layers.Dense(6, "relu", name="a"), layers.Dropout(0.1), layers.Dense(2)])
    stack.get_layer("a").trainable = False
    channels = follow(stack)
    wide = widen(stack, channels, draw_copies(channels, 2.0)).model
    assert isinstance(wide, keras.Sequential) and wide.get_layer("a").units == 12 and not wide.get_layer("a").trainable
