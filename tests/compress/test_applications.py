"""The contract of int8: the models of keras.applications, with random weights and small images, become integer files that run."""

import keras
import numpy as np
import pytest

import kdfuse as kf

SIZES = {
    "MobileNet": 32, "MobileNetV2": 32, "MobileNetV3Small": 32, "EfficientNetB0": 32, "ResNet50": 32, "ResNet50V2": 32, "DenseNet121": 32,
    "VGG16": 32, "InceptionV3": 75, "Xception": 71,
}  # fmt: skip


def quantized(name: str, **options: object) -> kf.Report:
    size, random = SIZES[name], np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=4, **options)
    x = random.uniform(-1, 1, (32, size, size, 3)).astype("float32")
    data = kf.Data(train=(x[:24], np.arange(24) % 4), validation=(x[24:], np.arange(8) % 4))
    _, report = kf.QuantizeAware(training=kf.Train(epochs=1, batch_size=24, learning_rate=1e-5))(model, data)
    return report


REFUSED = {"DenseNet121": "'tfl.average_pool_2d' op quantization parameters violate the same scale constraint"}
"""LiteRT's converter gives an average pooling between a convolution and a concatenation two scales, and refuses them."""


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_says_why_there_is_no_file(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be converted to LiteRT") as raised:
        quantized(name)
    assert REFUSED[name] in str(raised.value.__cause__)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SIZES if name not in REFUSED])
def test_becomes_an_integer_file(name: str) -> None:
    report = quantized(name)
    lite = kf.LiteModel(report.files["tflite"])
    print(f"{name}: {report['size/integer_share']:.2f} of the operations are integer, {lite.bytes:,} bytes")
    assert lite.integer_share is not None and lite.integer_share >= 0.65
    assert lite.bytes < 0.45 * report["size/keras_bytes"]  # the .keras file holds float32
    outputs = lite(np.zeros((2, SIZES[name], SIZES[name], 3), "float32"))
    assert outputs.shape == (2, 4) and np.isfinite(outputs).all()


@pytest.mark.slow
def test_a_small_one_becomes_an_integer_file() -> None:
    report = quantized("MobileNet", alpha=0.25)
    assert report["size/integer_share"] >= 0.9
