from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kdfuse.models.resnet import resnet


def data(*shape: Any) -> SimpleNamespace:
    return SimpleNamespace(input_shape=shape, task="classification", classes=10)


def conv_and_norm(kernel: int, inputs: int, outputs: int) -> int:
    return kernel * kernel * inputs * outputs + 4 * outputs


def test_the_parameters_of_resnet_20() -> None:
    expected, channels = conv_and_norm(3, 3, 16), 16
    for width in (16, 32, 64):
        for _ in range(3):
            expected += conv_and_norm(3, channels, width) + conv_and_norm(3, width, width)
            expected += conv_and_norm(1, channels, width) if channels != width else 0
            channels = width
    model = resnet(data(32, 32, 3), blocks=3)
    assert model.count_params() == expected + 64 * 10 + 10
    # 20 layers with weights, and the two projections
    assert sum(layer.name.endswith("logits") or "conv" in layer.name for layer in model.layers) == 20
    assert sum(layer.name.endswith("skip") for layer in model.layers) == 2
    assert model.get_layer("global_pooling").input.shape == (None, 8, 8, 64)


def test_the_parameters_of_a_bottleneck_without_batch_norm() -> None:
    model = resnet(data(8, 8), blocks=(1, 1), filters=(4, 6), bottleneck=True, batch_norm=False)
    stem = 9 * 4 + 4
    first = (4 * 4 + 4) + (9 * 4 * 4 + 4) + (4 * 16 + 16) + (4 * 16 + 16)
    second = (16 * 6 + 6) + (9 * 6 * 6 + 6) + (6 * 24 + 24) + (16 * 24 + 24)
    assert model.count_params() == stem + first + second + 24 * 10 + 10


def test_stages_and_widths() -> None:
    model = resnet(data(8, 8), blocks=2, stages=2, filters=4)
    assert model.to_json() == resnet(data(8, 8), blocks=(2, 2), filters=(4, 8)).to_json()
    assert [resnet(data(8, 8), blocks=(1, 1), filters=4).get_layer(f"stage_{n}_block_1_add").output.shape for n in (1, 2)] == [
        (None, 8, 8, 4),
        (None, 4, 4, 8),
    ]
    with pytest.raises(ValueError, match=r"`blocks`: expected 2 values, as stages=2 says"):
        resnet(data(8, 8), blocks=(1, 1, 1), stages=2)


def test_sequences() -> None:
    model = resnet(data(20, 3), blocks=(1, 1), filters=4, dropout=0.5)
    assert model.get_layer("conv").kernel.shape == (3, 3, 4)
    assert model(np.ones((2, 20, 3))).shape == (2, 10)


def test_too_many_stages_are_refused() -> None:
    assert resnet(data(8, 8), blocks=1, stages=4, filters=2).get_layer("global_pooling").input.shape == (None, 1, 1, 16)
    with pytest.raises(ValueError, match=r"`blocks`: stage 5 would halve a map of size 1.*at most 4"):
        resnet(data(8, 8), blocks=1, stages=5, filters=2)
