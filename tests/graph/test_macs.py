import keras
import numpy as np
import pytest

from kdfuse.graph import macs
from kdfuse.graph.macs import count_macs

layers = keras.layers


def of(layer, *shape, **kwargs):
    return keras.Sequential([keras.Input(shape, **kwargs), layer])


CASES = {  # each by hand: places of the output x what each place multiplies
    "dense": (lambda: of(layers.Dense(7), 5), 5 * 7),
    "dense over places": (lambda: of(layers.Dense(7), 3, 4, 5), 3 * 4 * 5 * 7),
    "conv1d valid": (lambda: of(layers.Conv1D(6, 3), 10, 4), 8 * 3 * 4 * 6),
    "conv1d causal dilated": (lambda: of(layers.Conv1D(6, 3, padding="causal", dilation_rate=2), 10, 4), 10 * 3 * 4 * 6),
    "conv2d same stride": (lambda: of(layers.Conv2D(8, 3, strides=2, padding="same"), 7, 9, 3), 4 * 5 * 9 * 3 * 8),
    "conv2d valid dilated": (lambda: of(layers.Conv2D(8, 3, dilation_rate=2), 9, 9, 3), 5 * 5 * 9 * 3 * 8),
    "conv2d groups": (lambda: of(layers.Conv2D(8, (3, 1), groups=2), 6, 6, 4), 4 * 6 * 3 * (4 // 2) * 8),
    "conv2d channels first": (lambda: of(layers.Conv2D(8, 3, data_format="channels_first"), 3, 8, 10), 6 * 8 * 9 * 3 * 8),
    "conv3d": (lambda: of(layers.Conv3D(2, 2), 4, 5, 6, 3), 3 * 4 * 5 * 8 * 3 * 2),
    "conv2d transpose": (lambda: of(layers.Conv2DTranspose(5, 3, strides=2, padding="same"), 4, 4, 2), 4 * 4 * 9 * 2 * 5),
    "depthwise": (lambda: of(layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), 6, 6, 4), 6 * 6 * 9 * 4 * 2),
    "separable": (lambda: of(layers.SeparableConv2D(10, 3, depth_multiplier=2), 6, 6, 4), 4 * 4 * (9 * 4 * 2 + 4 * 2 * 10)),
    "separable1d": (lambda: of(layers.SeparableConv1D(10, 3), 6, 4), 4 * (3 * 4 + 4 * 10)),
    "simple rnn": (lambda: of(layers.SimpleRNN(6), 9, 4), 9 * (4 * 6 + 6 * 6)),
    "lstm": (lambda: of(layers.LSTM(6, return_sequences=True), 9, 4), 9 * 4 * (4 * 6 + 6 * 6)),
    "gru": (lambda: of(layers.GRU(6), 9, 4), 9 * 3 * (4 * 6 + 6 * 6)),
    "unrolled": (lambda: of(layers.LSTM(6, unroll=True), 3, 4), 3 * 4 * (4 * 6 + 6 * 6)),
    "bidirectional": (lambda: of(layers.Bidirectional(layers.LSTM(6)), 9, 4), 2 * 9 * 4 * (4 * 6 + 6 * 6)),
    "stacked": (lambda: of(layers.RNN([layers.LSTMCell(3), layers.GRUCell(5)]), 9, 4), 9 * (4 * (4 * 3 + 9) + 3 * (3 * 5 + 25))),
    "conv lstm": (lambda: of(layers.ConvLSTM2D(3, 2), 5, 6, 6, 2), 5 * 25 * (4 * 2 * 12 + 4 * 3 * 12)),
    "time distributed": (lambda: of(layers.TimeDistributed(layers.Conv2D(4, 3)), 5, 6, 6, 2), 5 * 16 * 9 * 2 * 4),
    "time distributed model": (lambda: of(layers.TimeDistributed(of(layers.Dense(4), 6)), 5, 6), 5 * 24),
    "einsum": (lambda: of(layers.EinsumDense("abc,cde->abde", (None, 4, 5)), 6, 3), 6 * 3 * 4 * 5),
    "einsum ellipsis": (lambda: of(layers.EinsumDense("...c,cd->...d", 5), 6, 7, 3), 6 * 7 * 3 * 5),
    "embedding": (lambda: of(layers.Embedding(100, 8), 5, dtype="int32"), 0),
    "norm and pool": (lambda: of(keras.Sequential([layers.BatchNormalization(), layers.MaxPooling2D(), layers.ReLU()]), 4, 4, 2), 0),
    "strings of layers": (lambda: of(keras.Sequential([layers.Dense(4), keras.Sequential([layers.Dense(3)])]), 5), 20 + 12),
}


@pytest.mark.parametrize("name", CASES)
def test_counted_by_hand(name):
    build, expected = CASES[name]
    assert count_macs(build()) == expected


def test_attention():
    q, v = keras.Input((5, 8)), keras.Input((7, 6))
    macs = count_macs(keras.Model([q, v], layers.MultiHeadAttention(2, 3, value_dim=4)(q, v)))
    projections = 5 * 8 * 6 + 7 * 6 * 6 + 7 * 6 * 8 + 5 * 8 * 8
    assert macs == projections + 2 * 5 * 7 * 3 + 2 * 5 * 7 * 4
    key = keras.Input((7, 8))
    assert count_macs(keras.Model([q, v, key], layers.Attention()([q, v, key]))) == 5 * 7 * (8 + 6)
    grouped = layers.GroupQueryAttention(head_dim=3, num_query_heads=4, num_key_value_heads=2)(q, q)
    assert count_macs(keras.Model(q, grouped)) == 5 * 8 * 12 + 2 * 5 * 8 * 6 + 5 * 12 * 8 + 2 * 4 * 25 * 3
    assert count_macs(keras.Model([q, key], layers.Dot(axes=2)([q, key]))) == 5 * 7 * 8


def test_operations_of_a_graph():
    a, b = keras.Input((4, 5)), keras.Input((5, 6))
    assert count_macs(keras.Model([a, b], keras.ops.matmul(a, b))) == 4 * 5 * 6
    assert count_macs(keras.Model([a, b], keras.ops.einsum("bij,bjk->bik", a, b) * 2.0)) == 4 * 5 * 6
    assert count_macs(keras.Model(a, keras.ops.conv(a, np.zeros((2, 5, 3), "float32")))) is None


def test_shared_layers_count_at_each_call_and_nested_models_too():
    shared = layers.Dense(4)
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, layers.Dense(4)(shared(inner_input)))
    x = inputs = keras.Input((4,))
    assert count_macs(keras.Model(inputs, inner(inner(shared(x))))) == 5 * 16


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.out = keras.Sequential([layers.Dense(6)]), layers.Dense(2)

    def call(self, inputs):
        return self.out(self.block(inputs)) + self.out(self.block(inputs * 2))


class OwnWeights(layers.Layer):
    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], 3))

    def call(self, inputs):
        return inputs @ self.matrix


def test_subclassed_models_are_traced():
    model = Subclassed()
    assert count_macs(model) is None
    assert count_macs(model, np.zeros((9, 4), "float32")) == 2 * (24 + 12)
    assert count_macs(model) == 2 * (24 + 12)  # from the shapes it remembers


def test_what_cannot_be_told_is_none():
    assert count_macs(of(layers.Conv2D(2, 3), None, None, 3)) is None
    assert count_macs(of(layers.LSTM(2), None, 3)) is None
    assert count_macs(of(OwnWeights(), 4)) is None
    assert count_macs(keras.Sequential([layers.Dense(2)])) is None


def test_open_sizes_from_an_example_and_fixed_batches():
    assert count_macs(of(layers.LSTM(2), None, 3), np.zeros((4, 7, 3), "float32")) == 7 * 4 * (6 + 4)
    assert count_macs(keras.Sequential([keras.Input(batch_shape=(8, 5)), layers.Dense(7)])) == 35


def test_several_inputs_and_no_trace_is_left():
    a, b = keras.Input((4,), name="a"), keras.Input((5,), name="b")
    dense = layers.Dense(3)
    model = keras.Model({"a": a, "b": b}, {"y": dense(a), "z": layers.Dense(2)(b)})
    states = [v.numpy().copy() for v in model.variables]
    assert count_macs(model) == 12 + 10
    assert "call" not in vars(dense)
    for before, v in zip(states, model.variables, strict=True):
        np.testing.assert_array_equal(before, v)


@pytest.mark.parametrize("name", ["dense over places", "conv2d same stride", "separable", "depthwise", "embedding"])
def test_shapes_of_the_graph_give_what_a_trace_gives(name, monkeypatch):
    def no_trace(*args, **kwargs):
        raise AssertionError("traced")

    build, expected = CASES[name]
    model = build()
    with monkeypatch.context() as patch:
        patch.setattr(macs, "watching", no_trace)
        assert count_macs(model) == expected
    monkeypatch.setattr(macs, "_from_graph", lambda model: None)
    assert count_macs(model) == expected


def test_arguments_by_name():
    i = keras.Input((6, 6, 2))
    x = layers.Dense(4)(inputs=layers.Flatten()(inputs=layers.Conv2D(3, 3)(inputs=i)))
    model = keras.Model(i, x)
    assert count_macs(model) == 16 * 9 * 2 * 3 + 48 * 4
