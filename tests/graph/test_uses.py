import keras
import pytest

from kdfuse.graph.channels import NotFollowed
from kdfuse.graph.uses import channel_axis, is_elementwise, need


def test_which_activations_treat_each_channel_by_itself():
    for name in ("relu", "gelu", "tanh", "linear", "selu", "hard_sigmoid"):
        assert is_elementwise(keras.activations.get(name)), name
    for name in ("softmax", "log_softmax", "glu"):
        assert not is_elementwise(keras.activations.get(name)), name
    assert is_elementwise(None) and is_elementwise(lambda x: 3 * keras.ops.relu(x) - 1)
    assert not is_elementwise(lambda x: x / keras.ops.sum(x, axis=-1, keepdims=True)) and not is_elementwise(lambda x: x.nothing)
    assert not is_elementwise(lambda x: x * keras.ops.arange(9.0))  # another one for each channel


def test_the_axis_of_channels_and_giving_up():
    assert channel_axis(keras.layers.MaxPooling2D(data_format="channels_first"), 4) == 1
    assert channel_axis(keras.layers.MaxPooling2D(data_format="channels_last"), 4) == 3 and channel_axis(keras.layers.ReLU(), 3) == 2
    need(True, "fine")
    with pytest.raises(NotFollowed, match="not fine"):
        need(False, "not fine")
