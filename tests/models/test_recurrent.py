from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.models.recurrent import recurrent

IDS = np.array([[3, 1, 2, 0, 0, 0], [5, 4, 3, 2, 1, 0], [1, 0, 0, 0, 0, 0]], np.int32)
TOKENS = Data((IDS, np.array([0, 1, 2])))


def data(*shape: Any) -> SimpleNamespace:
    return SimpleNamespace(input_shape=shape, task="classification", classes=10)


def names(model: keras.Model) -> list[str]:
    return [operation.name for operation in model.operations]


def test_parameters_by_hand() -> None:
    # A GRU has three gates with two biases each, an LSTM four gates with one, a simple layer one.
    both = 2 * 3 * (7 * 5 + 5 * 5 + 2 * 5)
    assert recurrent(data(8, 7), units=5).count_params() == both + (10 * 10 + 10)
    assert recurrent(data(8, 7), units=5, cell="lstm", bidirectional=False).count_params() == 4 * (7 * 5 + 5 * 5 + 5) + (5 * 10 + 10)
    deep = (7 * 3 + 3) + (3 * 5 + 5 * 5 + 5) + (5 * 4 + 4 * 4 + 4) + (4 * 10 + 10)
    assert recurrent(data(8, 7), units=(5, 4), cell="rnn", bidirectional=False, embedding=3).count_params() == deep
    tokens = 6 * 64 + 3 * (64 * 5 + 5 * 5 + 2 * 5) + (5 * 3 + 3)
    assert recurrent(TOKENS, units=5, bidirectional=False).count_params() == tokens


def test_layers_alone_count_the_default_width() -> None:
    assert recurrent(data(8, 7), layers=2).to_json() == recurrent(data(8, 7), units=(64, 64)).to_json()


def test_the_parts_stand_in_order() -> None:
    model = recurrent(TOKENS, units=4, layers=2, dropout=0.1, pooling="average")
    expected = ["embedding", "dropout_1", "bidirectional_1", "dropout_2", "bidirectional_2", "pooling", "dropout_3", "logits"]
    assert [name for name in names(model) if name not in ("input", "present")] == expected
    plain = ["input", "steps", "projection", "gru_1", "logits"]
    assert names(recurrent(data(8, 7, 1), embedding=3, bidirectional=False)) == plain
    assert names(recurrent(data(8, 7), cell="lstm", bidirectional=False)) == ["input", "lstm_1", "logits"]


@pytest.mark.parametrize("pooling", ["last", "average", "max"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_padding_changes_nothing(pooling: str, bidirectional: bool) -> None:
    model = recurrent(TOKENS, units=(4, 3), pooling=pooling, bidirectional=bidirectional, vocabulary=6)
    before = np.asarray(model(IDS))
    table = model.get_layer("embedding").embeddings
    changed = np.asarray(table).copy()
    changed[0] = 9.0
    table.assign(changed)
    np.testing.assert_allclose(model(IDS), before, rtol=1e-5, atol=1e-6)
    # Nor does its amount: the same rows, cut shorter, through a model of that length with the same weights.
    shorter = recurrent(Data((IDS[:, :5], np.array([0, 1, 2]))), units=(4, 3), pooling=pooling, bidirectional=bidirectional, vocabulary=6)
    shorter.set_weights(model.get_weights())
    np.testing.assert_allclose(shorter(IDS[:, :5]), before, rtol=1e-5, atol=1e-6)


def test_shapes_of_sequences() -> None:
    for shape in ((8,), (8, 3), (8, 3, 2)):
        assert recurrent(data(*shape), units=2)(np.ones((2, *shape))).shape == (2, 10)
    open_length = recurrent(data(None, 3), units=2, pooling="average")
    assert open_length(np.ones((2, 4, 3))).shape == open_length(np.ones((2, 9, 3))).shape == (2, 10)
    assert recurrent(SimpleNamespace(input_shape=(6,), task="binary", classes=1), vocabulary=9)(IDS).shape == (3, 1)


def test_several_inputs_and_outputs() -> None:
    several = SimpleNamespace(input_shape={"left": (8, 8), "right": (8, 8)}, task="classification", classes=2)
    with pytest.raises(ValueError, match=r"expected one input for recurrent. Received: 2, \['left', 'right'\]"):
        recurrent(several)
    one = SimpleNamespace(input_shape={"left": (8, 8)}, task={"a": "classification", "b": "regression"}, classes={"a": 3, "b": 1})
    outputs = recurrent(one, units=2)({"left": np.ones((2, 8, 8))})
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {"a": (2, 3), "b": (2, 1)}


def test_large_ids_survive_half_precision() -> None:
    ids = np.array([[3000, 3001], [3001, 1]], np.int32)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = recurrent(Data((ids, np.array([0, 1]))), units=2, pooling="max")
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("embedding").embeddings.shape[0] == 3002
    assert model.input.dtype == "int32" and not np.allclose(model(ids), model(ids + np.array([[1, 0], [0, 0]], np.int32)))
