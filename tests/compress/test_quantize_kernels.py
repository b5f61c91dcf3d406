import keras
import numpy as np

from kdfuse.compress.quantize_kernels import halve, write_back
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import to_litert

layers = keras.layers


def test_values_are_those_of_the_file_also_through_a_folded_batch_norm():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = keras.Sequential([
        keras.Input((8, 8, 4)), layers.Conv2D(8, 3, name="conv", use_bias=False), layers.BatchNormalization(name="bn"),
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="depth"), layers.Flatten(), layers.Dense(5, name="dense"),
    ])  # fmt: skip
    bn = model.get_layer("bn")
    bn.gamma.assign(rng.normal(size=8))  # some channels change their sign
    bn.moving_variance.assign(rng.random(8) + 0.5)
    x = rng.random((32, 8, 8, 4), "float32")
    data = to_litert(model, quantize="int8", representative=x)
    expected = {}
    for name in ("conv", "depth", "dense"):
        kernel = model.get_layer(name).kernel.numpy()
        axes = (0, 1) if name == "depth" else tuple(range(kernel.ndim - 1))
        scale = np.abs(kernel).max(axis=axes, keepdims=True) / 127
        expected[name] = np.round(kernel / scale) * scale
    changed, left = write_back(model, data)
    assert changed == ["conv", "depth", "dense"] and left == []
    for name, values in expected.items():
        found = model.get_layer(name).kernel.numpy()
        assert np.isclose(found, values, atol=1e-6).mean() > 0.998
    assert np.abs(model(x).numpy() - LiteModel(data)(x)).max() < 0.05 * np.abs(model(x)).max()


def test_a_file_of_another_model_changes_nothing():
    model, other = (keras.Sequential([keras.Input((40,)), layers.Dense(30, name="d")]) for _ in range(2))
    x = np.random.default_rng(0).random((8, 40), "float32")
    before = model.get_weights()
    assert write_back(model, to_litert(other, quantize="int8", representative=x)) == ([], ["d"])
    assert write_back(model, to_litert(model)) == ([], ["d"])
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


def test_halving():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    before = model.layers[0].kernel.numpy()
    halve(model)
    np.testing.assert_array_equal(model.layers[0].kernel, before.astype("float16").astype("float32"))


def test_a_channel_of_zeros_stays():
    model = keras.Sequential([keras.Input((40,)), layers.Dense(30, name="d")])
    kernel = model.layers[0].kernel.numpy()
    kernel[:, 3] = 0
    model.layers[0].kernel.assign(kernel)
    x = np.random.default_rng(0).random((8, 40), "float32")
    assert write_back(model, to_litert(model, quantize="int8", representative=x))[0] == ["d"]
    assert np.isfinite(model.layers[0].kernel.numpy()).all() and not model.layers[0].kernel.numpy()[:, 3].any()
