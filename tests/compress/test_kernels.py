"""Which weights are kernels, and the view of each as positions, inputs and outputs."""

import keras
import numpy as np
import pytest

from kdfuse.compress.kernels import einsum_axes, find, parts

layers = keras.layers


def built(layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def names(model):
    kernels, spared = find(model)
    return {(one.layer, one.name): one.asked for one in kernels}, {(one.layer, one.name): one.why for one in spared}


BY_DEFAULT = {
    "dense": (layers.Dense(3, name="it"), (4,), [("it", "kernel")]),
    "conv1d": (layers.Conv1D(3, 2, name="it"), (5, 4), [("it", "kernel")]),
    "conv3d": (layers.Conv3D(3, 2, name="it"), (4, 4, 4, 2), [("it", "kernel")]),
    "transpose": (layers.Conv2DTranspose(3, 2, name="it"), (4, 4, 2), [("it", "kernel")]),
    "separable": (layers.SeparableConv2D(3, 2, name="it"), (4, 4, 2), [("it", "pointwise_kernel")]),
    "lstm": (layers.LSTM(3, name="it"), (5, 4), [("it/lstm_cell", "kernel"), ("it/lstm_cell", "recurrent_kernel")]),
    "gru": (layers.GRU(3, name="it"), (5, 4), [("it/gru_cell", "kernel"), ("it/gru_cell", "recurrent_kernel")]),
    "convlstm": (layers.ConvLSTM1D(3, 2, name="it"), (3, 6, 4), [("it/conv_lstm_cell", one) for one in ("kernel", "recurrent_kernel")]),
    "bidirectional": (layers.Bidirectional(layers.SimpleRNN(2), name="it"), (5, 4), 4),
    "distributed": (layers.TimeDistributed(layers.Dense(2, name="inner"), name="it"), (5, 4), [("it/inner", "kernel")]),
    "einsum": (layers.EinsumDense("abc,cd->abd", (None, 3), name="it"), (5, 4), [("it", "kernel")]),
    "nested": (keras.Sequential([keras.Input((4,)), layers.Dense(2, name="inner")], name="it"), (4,), [("it/inner", "kernel")]),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_DEFAULT)
def test_kernels_that_are_pruned_by_default(case):
    layer, shape, expected = BY_DEFAULT[case]
    found, _ = names(built(layer, shape))
    assert not any(found.values())
    assert len(found) == expected if isinstance(expected, int) else list(found) == expected


def test_attention_is_its_four_projections():
    inputs = keras.Input((6, 8))
    found, spared = names(keras.Model(inputs, layers.MultiHeadAttention(2, 4, name="it")(inputs, inputs)))
    assert [one for one, _ in found] == ["it/query", "it/key", "it/value", "it/attention_output"]
    assert set(spared) == {("it/query", "bias"), ("it/key", "bias"), ("it/value", "bias")}


def test_what_is_spared_says_why():
    class Own(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 3), name="w")

        def call(self, x):
            return x @ self.w

    class Asks(Own):
        def get_prunable_weights(self):
            return [self.w]

    inputs = keras.Input((6, 6, 4))
    x = layers.SeparableConv2D(4, 2, name="separable")(layers.DepthwiseConv2D(2, name="depth")(inputs))
    x = layers.Dense(4, name="tall")(layers.BatchNormalization(name="norm")(x))
    x = Own(name="own")(layers.GlobalAveragePooling2D()(x))
    found, spared = names(keras.Model(inputs, Asks(name="asks")(x)))
    assert found[("asks", "w")] == "" == found[("tall", "kernel")] and "only where it is named" in found[("own", "w")]
    assert "only where the layer is named" in found[("depth", "kernel")]
    assert spared == {("norm", ""): "normalisation", ("separable", "depthwise_kernel"): spared[("separable", "depthwise_kernel")]}
    found, _ = names(built(layers.Embedding(5, 3, name="it"), (4,)))
    assert "embeddings" in found[("it", "embeddings")]
    dense = layers.Dense(3, name="it")
    model = built(dense, (4,))
    dense.enable_lora(2)
    assert not names(model)[0] and "LoRA" in names(model)[1][("it", "kernel")]


def test_a_shared_layer_is_there_once_and_paths_go_through_models():
    shared = layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), shared, layers.Dense(4, name="own")], name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inner(shared(inputs)))
    assert sorted(path for path, _ in parts(model) if "own" in path or "shared" in path) == ["inner/own", "shared"]
    assert len(find(model)[0]) == 2


@pytest.mark.parametrize(
    ("layer", "shape", "viewed"),
    [
        (layers.Dense(3), (4,), (1, 4, 3)),
        (layers.Conv2D(6, (2, 3), groups=2), (5, 5, 4), (6, 2, 6)),
        (layers.Conv2DTranspose(5, 2), (4, 4, 3), (4, 3, 5)),
        (layers.SeparableConv1D(5, 2), (6, 3), (1, 3, 5)),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (5, 4), (1, 4, 6)),
        (layers.EinsumDense("abcd,cde->abe", (None, 3)), (5, 2, 4), (1, 8, 3)),
        (layers.EinsumDense("abc,bcd->abd", (5, 3)), (5, 4), (5, 4, 3)),
        (layers.EinsumDense("...x,xy->...y", 3), (5, 4), (1, 4, 3)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 4), (1, 9, 8)),
    ],
)
def test_the_view_is_positions_inputs_outputs_and_comes_back(layer, shape, viewed):
    (kernel,), _ = find(built(layer, shape))
    array = np.arange(kernel.size, dtype="float32").reshape(kernel.variable.shape)
    view = kernel.view(array)
    assert view.shape == viewed and kernel.inputs == viewed[1]
    assert np.array_equal(kernel.unview(view), array)


def test_a_view_has_the_inputs_of_an_output_in_its_columns():
    (kernel,), _ = find(built(layers.Conv2DTranspose(2, 1), (4, 4, 3)))
    array = kernel.variable.numpy()  # [1, 1, outputs, inputs]
    assert np.array_equal(kernel.view(array)[0], array[0, 0].T)


def test_axes_of_an_einsum():
    assert einsum_axes("abc,cde->abde") == ((), (0,), (1, 2))
    assert einsum_axes("abcd,cde->abe") == ((), (0, 1), (2,))
    assert einsum_axes("abc,bcd->abd") == ((0,), (1,), (2,))


def test_subclassed_models_have_kernels_too():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.heads = layers.Dense(4, name="first"), [layers.Dense(2, name="a"), layers.Dense(2, name="b")]

        def call(self, x):
            x = self.first(x)
            return sum(head(x) for head in self.heads)

    model = Net()
    model(np.zeros((1, 3), "float32"))
    assert [kernel.layer for kernel in find(model)[0]] == ["first", "a", "b"]
