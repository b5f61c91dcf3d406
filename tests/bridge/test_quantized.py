"""TFMOT's model: whose variables are whose, first ranges, the values that int8 leaves."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.bridge.annotate import Kept
from kdfuse.bridge.configs import tfmot_module
from kdfuse.bridge.quantized import ORIGINAL, Quantized, calibrate, quantized, settle, wrappers
from kdfuse.bridge.to_tf_keras import to_tf_keras

L = keras.layers
X = np.random.default_rng(0).uniform(0, 1, (64, 8, 8, 1)).astype("float32")


def net() -> keras.Model:
    keras.utils.set_random_seed(2)
    given = keras.Input((8, 8, 1))
    x = L.SeparableConv2D(4, 3, name="sep")(L.BatchNormalization()(L.Conv2D(4, 3, name="conv")(given)))
    return keras.Model(given, L.Dense(3, name="head")(L.LSTM(5, name="lstm")(L.Reshape((16, 4))(x))))


def crossed(model: keras.Model, kept: Any = None) -> Quantized:
    return quantized(to_tf_keras(model), kept or {})


def test_every_variable_finds_its_own() -> None:
    model = net()
    net_of = crossed(model)
    assert {id(mine) for mine, _ in net_of.pairs} == {id(weight) for weight in model.weights}
    assert len({id(theirs) for _, theirs in net_of.pairs}) == len(model.weights)
    for mine, theirs in net_of.pairs:
        assert np.array_equal(mine.numpy(), theirs.numpy()), mine.path
    assert {name: mine.path for name, mine in net_of.kernels.items()} == {
        "conv": "conv/kernel", "sep_depthwise": "sep/depthwise_kernel", "sep_pointwise": "sep/pointwise_kernel", "head": "head/kernel"
    }  # fmt: skip
    assert net_of.left == {"lstm": "LSTM"} and net_of.written == []


def test_calibration_sets_the_ranges_of_the_float_model() -> None:
    given = keras.Input((8, 8, 1))
    model = keras.Model(given, L.Dense(3, name="head")(L.Flatten()(L.ReLU(name="relu")(L.Conv2D(2, 3, name="conv")(given)))))
    net_of = crossed(model)
    # The kernel is rounded as int8 rounds it while the ranges are measured.
    rounded = {id(mine): array for mine, array in settle(net_of)}
    plain = keras.models.clone_model(model)
    plain.set_weights([rounded.get(id(weight), weight.numpy()) for weight in model.weights])
    features = np.asarray(keras.Model(plain.inputs, plain.get_layer("relu").output)(X))
    before = [weight.numpy() for weight in net_of.model.weights if "_min" not in weight.name and "_max" not in weight.name]
    calibrate(net_of.model, [[tf.constant(X[:32])], [tf.constant(X[32:])]])
    wrapper = next(one for one in wrappers(net_of.model) if one.layer.name == "relu")
    ends = {weight.name.rpartition("_")[2]: float(weight) for weight in wrapper.weights if "output" in weight.name}
    assert ends["max:0"] == pytest.approx((features[:32].max() + features[32:].max()) / 2, rel=1e-5) and ends["min:0"] == 0.0
    entry = next(layer for layer in net_of.model.layers if type(layer).__name__ == "QuantizeLayer")
    assert [float(weight) for weight in entry.weights if "max" in weight.name] == [pytest.approx(X.max())]
    after = [weight.numpy() for weight in net_of.model.weights if "_min" not in weight.name and "_max" not in weight.name]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert tfmot_module("quant_ops").MovingAvgQuantize.__module__.startswith("tensorflow_model_optimization")


def test_kernels_settle_at_what_int8_can_hold() -> None:
    given = keras.Input((6,))
    model = keras.Model(given, L.Dense(50, name="head")(given))
    ((mine, array),) = settle(crossed(model))
    kernel = np.asarray(model.get_layer("head").kernel)
    scale = np.abs(kernel).max() / 127
    assert mine is model.get_layer("head").kernel
    assert np.allclose(array, np.round(kernel / scale) * scale, atol=1e-6)


def test_a_clustered_kernel_is_trained_through_its_original() -> None:
    given = keras.Input((6,))
    model = keras.Model(given, L.Dense(50, name="head")(given))
    kernel = model.get_layer("head").kernel
    kernel.assign(np.random.default_rng(0).choice([-0.5, 0.0, 0.25], kernel.shape))
    net_of = crossed(model, {"head": Kept(clusters=True, sparsity=True)})
    theirs = next(other for mine, other in net_of.pairs if mine is kernel)
    assert ORIGINAL in theirs.name and [weight.name for weight in net_of.written] == ["head/kernel:0"]
    ((_, array),) = settle(net_of)
    assert len(np.unique(array)) == 3 and np.array_equal(array == 0, kernel.numpy() == 0)
