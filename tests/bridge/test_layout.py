import keras
import numpy as np
import pytest

from kdfuse.bridge.layout import kernels_before_relu
from kdfuse.bridge.quantized import quantized, settle, wrappers
from kdfuse.bridge.to_tf_keras import to_tf_keras


@pytest.mark.parametrize("relu", [lambda: keras.layers.ReLU(), lambda: keras.layers.Activation("relu")], ids=["ReLU", "Activation"])
@pytest.mark.parametrize("kind", ["Dense", "Conv2D", "DepthwiseConv2D"])
def test_a_kernel_before_a_relu_is_quantized_and_its_output_is_not(kind, relu):
    linear = (
        keras.layers.Dense(3)
        if kind == "Dense"
        else getattr(keras.layers, kind)(**({"filters": 3} if kind == "Conv2D" else {}), kernel_size=2)
    )
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, relu()(linear(inputs)))
    net = quantized(to_tf_keras(model), {})
    (kernel, values), *others = settle(net)
    assert not others and kernel is linear.kernel
    step = np.abs(np.asarray(kernel)).max() / 127
    assert 0 < np.abs(values - np.asarray(kernel)).max() <= step / 2 * 1.01
    wrapped = {one.layer.name: one for one in wrappers(net.model)}
    assert not any("output_min" in weight.name or "post_activation" in weight.name for weight in wrapped[linear.name].weights)


def test_outside_tfmot_is_as_it_was():
    from kdfuse.bridge.configs import tfmot_module

    transform = tfmot_module("default_8bit.default_8bit_transforms").LayerReLUQuantize
    before = transform.replacement
    with pytest.raises(KeyError), kernels_before_relu():
        assert transform.replacement is not before
        raise KeyError
    assert transform.replacement is before
