import keras
import numpy as np
import pytest

from kdfuse.graph.follow import describe, follow

layers = keras.layers
RNG = np.random.default_rng(1)
X = RNG.normal(size=(3, 2, 4)).astype("float32")


@pytest.mark.parametrize("kind", [layers.SimpleRNN, layers.LSTM, layers.GRU])
def test_units_of_recurrent_layers_go_over_all_gates(kind, oracle):
    i = keras.Input((2, 4))
    x = kind(6, name="two")(kind(8, return_sequences=True, name="one")(i))
    small = oracle(keras.Model(i, layers.Dense(2)(x)), X)
    assert small.get_layer("one").units == 4 and small.get_layer("two").units == 3
    gates = {layers.SimpleRNN: 1, layers.LSTM: 4, layers.GRU: 3}[kind]
    assert small.get_layer("two").cell.kernel.shape == (4, 3 * gates) and small.get_layer("two").cell.recurrent_kernel.shape == (
        3,
        3 * gates,
    )


def test_states_belong_to_the_units(oracle):
    i = keras.Input((2, 4))
    y, h, c = layers.LSTM(8, return_state=True, name="encoder")(i)
    z = layers.LSTM(8, name="decoder")(i, initial_state=[h, c])
    small = oracle(keras.Model(i, layers.Dense(2)(layers.Concatenate()([y, z]))), X)
    assert small.get_layer("encoder").units == small.get_layer("decoder").units == 4


@pytest.mark.parametrize("mode", ["concat", "sum", None])
def test_bidirectional(mode, oracle):
    i = keras.Input((2, 4))
    x = layers.Bidirectional(layers.GRU(6, return_sequences=True), merge_mode=mode, name="both")(i)
    x = layers.Concatenate()(x) if mode is None else x
    small = oracle(keras.Model(i, layers.Dense(2)(layers.Bidirectional(layers.LSTM(4))(x))), X)
    assert small.get_layer("both").forward_layer.units == small.get_layer("both").backward_layer.units == 3


def test_a_mask_is_no_state(oracle):
    i = keras.Input((2,), dtype="int32")
    x = layers.LSTM(5, name="lstm")(layers.Embedding(9, 6)(i), mask=keras.ops.not_equal(i, 0))
    assert oracle(keras.Model(i, layers.Dense(2)(x)), RNG.integers(0, 9, (3, 2))).get_layer("lstm").units == 2


@pytest.mark.parametrize("gate", [False, True])
def test_heads_go_whole(gate, oracle):
    i = keras.Input((2, 4))
    x = layers.Dense(8, name="query")(i)
    y = layers.Dense(6, name="value")(i)
    attended = layers.MultiHeadAttention(4, 3, value_dim=2, use_gate=gate, name="attention")(x, y, attention_mask=np.ones((1, 2, 2), bool))
    small = oracle(keras.Model(i, layers.Dense(2)(layers.Add()([x, attended]))), X)
    attention = small.get_layer("attention")
    assert (
        attention.num_heads == 2 and attention.key_dim == 3 and small.get_layer("value").units == 3 and small.get_layer("query").units == 4
    )
    alone = layers.MultiHeadAttention(4, 3, name="attention")(x, x)  # another width than its query
    small = oracle(keras.Model(i, layers.Dense(2)(alone)), X, keep=0.25)
    assert small.get_layer("attention").num_heads == 1 and small.get_layer("attention").get_config()["output_shape"] == (2,)


def test_a_transformer_keeps_what_is_normalized(oracle):
    i = keras.Input((2, 4))
    x = layers.Dense(8, name="projection")(i)
    y = layers.LayerNormalization(name="norm")(x)
    x = x + layers.MultiHeadAttention(4, 2, name="attention")(y, y)
    x = x + layers.Dense(8)(layers.Dense(16, "gelu", name="hidden")(layers.LayerNormalization()(x)))
    small = oracle(keras.Model(i, layers.Dense(2)(layers.GlobalAveragePooling1D()(x))), X)
    assert small.get_layer("hidden").units == 8 and small.get_layer("attention").num_heads == 2 and small.get_layer("projection").units == 8
    assert any("its statistics would change" in row["protected"] for row in describe(oracle.channels))


def test_scores_that_are_read_keep_the_heads_and_a_mixing_activation_the_units():
    i = keras.Input((2, 4))
    _, scores = layers.MultiHeadAttention(4, 2, name="attention")(i, i, return_attention_scores=True)
    rows = describe(follow(keras.Model(i, layers.Dense(2)(layers.Flatten()(scores)))))
    assert rows[0]["kind"] == "MultiHeadAttention heads" and "are read" in rows[0]["protected"]
    made = keras.Model(i, layers.Dense(2)(layers.LSTM(4, activation="softmax")(i)))
    assert "mixes channels" in describe(follow(made))[0]["protected"]
