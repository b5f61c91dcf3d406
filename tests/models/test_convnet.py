from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from kdfuse.data import Data
from kdfuse.models.convnet import convnet


def data(*shape: Any) -> SimpleNamespace:
    return SimpleNamespace(input_shape=shape, task="classification", classes=10)


def names(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers]


def test_parameters_by_hand() -> None:
    # 28 -> 14 -> 7; the convolutions, the dense layer over 7 * 7 * 64 features, the head
    expected = (9 * 32 + 32) + (25 * 32 * 64 + 64) + (7 * 7 * 64 * 100 + 100) + (100 * 10 + 10)
    assert convnet(data(28, 28, 1), filters=(32, 64), kernel_size=(3, 5), units=100).count_params() == expected
    # batch normalization: four numbers a channel in place of the bias, in convolutions and dense layers; 28 -> 14 by the strides
    expected = (9 * 3 * 8 + 32) + (14 * 14 * 8 * 6 + 24) + (6 * 10 + 10)
    assert convnet(data(28, 28, 3), layers=1, filters=8, strides=2, pooling=None, units=6, batch_norm=True).count_params() == expected
    # a skip: 1x1 projection 1 -> 8 in the first layer, none in the second
    expected = (9 * 8 + 8) + 8 + (9 * 8 * 8 + 8) + (8 * 10 + 10)
    assert convnet(data(8, 8), filters=8, skip=True, global_pooling="average", units=()).count_params() == expected


def test_the_parts_stand_in_order() -> None:
    model = convnet(data(8, 8), layers=1, batch_norm=True, skip=True, units=(4, 5), dropout=0.1)
    conv = ["conv_1", "conv_batch_norm_1", "conv_activation_1", "conv_skip_1", "conv_add_1", "pool_1"]
    dense = ["dropout_1", "dense_1", "batch_norm_1", "activation_1", "dropout_2", "dense_2", "batch_norm_2", "activation_2", "dropout_3"]
    assert names(model) == ["input", "channels", *conv, "flatten", *dense, "logits"]
    assert names(convnet(data(8, 8, 1), layers=1, units=(), dropout=0.1))[-3:] == ["flatten", "dropout_1", "logits"]


def test_the_depth_comes_from_the_tuples() -> None:
    assert sum(name.startswith("conv_") for name in names(convnet(data(28, 28), filters=(4, 4, 4), activation="linear"))) == 3
    with pytest.raises(ValueError, match=r"`kernel_size`: expected 2 values, as filters=\(4, 4\) says"):
        convnet(data(28, 28), filters=(4, 4), kernel_size=(3, 3, 3))
    with pytest.raises(ValueError, match=r"`filters`: expected 3 values, as layers=3 says"):
        convnet(data(28, 28), layers=3, filters=(4, 4))


def test_sequences_and_images() -> None:
    assert convnet(data(16, 3)).get_layer("conv_1").kernel.shape == (3, 3, 32)
    assert convnet(data(16)).get_layer("conv_1").kernel.shape == (3, 1, 32)
    assert convnet(data(16, 16)).get_layer("conv_1").kernel.shape == (3, 3, 1, 32)
    assert convnet(data(16, 8), dimensions=2).get_layer("conv_1").kernel.shape == (3, 3, 1, 32)
    assert convnet(data(16, 16), dimensions=1).get_layer("conv_1").kernel.shape == (3, 16, 32)
    assert convnet(data(16, 3), pooling="average", global_pooling="max")(np.ones((2, 16, 3))).shape == (2, 10)


def test_unknown_sizes_need_global_pooling() -> None:
    model = convnet(data(None, 3), global_pooling="average")
    assert model(np.ones((2, 9, 3))).shape == model(np.ones((2, 50, 3))).shape == (2, 10)
    with pytest.raises(ValueError, match=r"`global_pooling`: 'flatten' needs data of one size"):
        convnet(data(None, 3))


def test_pooling_stops_where_nothing_is_left() -> None:
    assert convnet(data(8, 8), layers=3).get_layer("pool_3").output.shape[1:3] == (1, 1)
    message = r"`pooling`: layer 4 would pool windows of 2 out of a map of size 1x1. Received: pool_size=2. Give fewer layers than 4"
    with pytest.raises(ValueError, match=message):
        convnet(data(8, 8), layers=4)
    assert convnet(data(8, 8), layers=4, pool_size=(2, 1, 2, 2)).get_layer("pool_4").output.shape[1:3] == (1, 1)
    assert not any(name.startswith("pool") for name in names(convnet(data(8, 8), layers=5, pooling=None)))


def test_a_kernel_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`kernel_size`: expected at most 6, the smallest side of the data's \(8, 6\)"):
        convnet(data(8, 6, 1), kernel_size=7)


def test_several_inputs_are_refused() -> None:
    several = SimpleNamespace(input_shape={"left": (8, 8), "right": (8, 8)}, task="classification", classes=2)
    with pytest.raises(ValueError, match=r"expected one input for convnet. Received: 2, \['left', 'right'\].*kdfuse.models.mlp"):
        convnet(several)
    one = SimpleNamespace(input_shape={"left": (8, 8)}, task={"a": "classification", "b": "regression"}, classes={"a": 3, "b": 1})
    outputs = convnet(one)({"left": np.ones((2, 8, 8))})
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {"a": (2, 3), "b": (2, 1)}


def test_token_ids_get_an_embedding() -> None:
    ids = np.array([[3, 1, 2, 0, 0, 0], [5, 4, 3, 2, 1, 0]], np.int32)
    tokens = Data((ids, np.array([0, 1])))
    model = convnet(tokens, layers=1, filters=4, global_pooling="max", units=())
    assert names(model) == ["input", "embedding", "conv_1", "conv_activation_1", "pool_1", "global_pooling", "logits"]
    assert model.input.dtype == "int32" and model.get_layer("embedding").embeddings.shape == (6, 64)
    assert model.count_params() == 6 * 64 + (3 * 64 * 4 + 4) + (4 * 2 + 2)
    # As wide as long: still a sequence, never an image.
    square = convnet(tokens, layers=1, embedding=6, vocabulary=9)
    assert square.get_layer("conv_1").kernel.shape == (3, 6, 32) and square.get_layer("embedding").embeddings.shape == (9, 6)
    assert square(ids).shape == (2, 2)
    with pytest.raises(ValueError, match="`dimensions`: expected 1 or None for token ids. Received: dimensions=2"):
        convnet(tokens, dimensions=2)
    with pytest.raises(ValueError, match=r"`embedding`: a setting for token ids.*\(8, 8\)"):
        convnet(data(8, 8), embedding=4)
    # Integers with more axes are pictures, as before.
    assert "embedding" not in names(convnet(Data((np.ones((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])))))
