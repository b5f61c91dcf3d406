import keras
import numpy as np
import pytest

from kdfuse.graph.blocks import find_blocks, run_without, without_blocks

layers = keras.layers
X = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")


def net():
    i = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(i)
    for k in (1, 2):
        y = layers.Conv2D(4, 3, padding="same", name=f"conv_{k}a")(layers.ReLU(name=f"relu_{k}")(x))
        x = layers.Add(name=f"add_{k}")([x, layers.Conv2D(4, 3, padding="same", name=f"conv_{k}b")(y)])
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 1, name="plain")(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(i, layers.Dense(4, name="head")(layers.Dense(4, "relu", name="dense")(x)))


def test_residual_blocks_and_plain_layers_are_found():
    found = {block.name: block.layers for block in find_blocks(net())}
    assert found == {
        "add_1": ("relu_1", "conv_1a", "conv_1b", "add_1"),
        "add_2": ("relu_2", "conv_2a", "conv_2b", "add_2"),
        "plain": ("plain", "norm"),
        "dense": ("dense",),
    }


def test_without_a_block_its_input_goes_on(tmp_path):
    model = net()
    blocks = find_blocks(model)
    small = without_blocks(model, ["add_1", "plain"])
    assert [layer.name for layer in small.layers if "conv" in layer.name or layer.name in ("plain", "norm")] == ["conv_2a", "conv_2b"]
    (expected,) = run_without(model, X, [block for block in blocks if block.name in ("add_1", "plain")])
    np.testing.assert_allclose(small(X), expected, atol=1e-6)
    # By hand: an addition whose branch is 0 gives its input.
    for name in ("conv_1b",):
        model.get_layer(name).kernel.assign(np.zeros((3, 3, 4, 4)))
    np.testing.assert_allclose(without_blocks(model, ["add_1"])(X), model(X), atol=1e-6)
    small.save(tmp_path / "small.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "small.keras")(X), small(X), atol=1e-6)
    assert run_without(model, X, [])[0].numpy() == pytest.approx(np.asarray(model(X)), abs=1e-6)


def test_a_stack_stays_a_stack():
    stack = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="a"), layers.Dense(4, name="b"), layers.Dense(4, name="head")])
    small = without_blocks(stack, ["b"])
    assert isinstance(small, keras.Sequential) and [layer.name for layer in small.layers] == ["a", "head"]
    x = X[:, 0, 0, :1].repeat(4, -1)
    np.testing.assert_allclose(small(x), stack.get_layer("head")(stack.get_layer("a")(x)), atol=1e-6)


def test_what_is_used_elsewhere_or_several_times_is_no_block():
    i = keras.Input((4,))
    shared, inner = layers.Dense(4, name="shared"), layers.Dense(4, name="inner")(i)
    x = layers.Add(name="add")([i, layers.Dense(4, name="last")(inner)])
    found = {
        block.name: block.layers for block in find_blocks(keras.Model(i, [layers.Dense(2)(shared(shared(x))), layers.Dense(3)(inner)]))
    }
    assert found == {"add": ("last", "add"), "inner": ("inner",)}


def test_a_model_without_a_graph_is_refused():
    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match="has no graph of layers"):
        find_blocks(Own())
