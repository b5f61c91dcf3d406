import keras
import numpy as np
import pytest

from kdfuse.export.lite_file import LiteFile, Operation, Tensor, read_file, read_source
from kdfuse.export.lite_trust import unsealed
from kdfuse.export.litert import to_litert

layers = keras.layers


@pytest.fixture(scope="module")
def data():
    model = keras.Sequential(
        [keras.Input((6, 6, 1), name="image"), layers.Conv2D(2, 3, activation="relu"), layers.Flatten(), layers.Dense(3)]
    )
    return unsealed(to_litert(model, quantize="int8", representative=np.random.default_rng(0).random((8, 6, 6, 1), "float32")))


def test_what_a_file_holds(data):
    file = read_file(data)
    names = [operation.name for operation in file.operations]
    assert names[0] == "QUANTIZE" and names[-1] == "DEQUANTIZE" and {"CONV_2D", "FULLY_CONNECTED"} < set(names)
    (image,) = file.inputs
    assert (image.name, image.shape, image.dtype, image.constant) == ("image", (-1, 6, 6, 1), "float32", False)
    assert [(one.name, one.shape) for one in file.outputs] == [("output_0", (-1, 3))]
    (convolution,) = [one for one in file.operations if one.name == "CONV_2D"]
    assert [(one.dtype, one.constant, one.quantized) for one in convolution.inputs] == [
        ("int8", False, True), ("int8", True, True), ("int32", True, True),
    ]  # fmt: skip


def tensor(dtype, constant=False, quantized=False):
    return Tensor("t", 0, (1,), dtype, constant, quantized, False)


def test_the_share_of_integer_operations_is_counted_as_documented():
    number, whole = tensor("float32"), tensor("int8", quantized=True)
    weights, shape = tensor("int8", constant=True, quantized=True), tensor("int32")
    integer, hybrid = Operation("CONV_2D", [whole, weights], [whole]), Operation("FULLY_CONNECTED", [number, weights], [number])
    left_out = [Operation("QUANTIZE", [number], [whole]), Operation("DEQUANTIZE", [whole], [number]), Operation("SHAPE", [shape], [shape])]

    def share(*operations):
        return LiteFile(list(operations), [], [], []).integer_share

    assert share(integer, *left_out) == 1.0 and share(hybrid, *left_out) == 0.0
    assert share(integer, integer, integer, hybrid) == 0.75
    assert share(*left_out) is None


def test_every_truncation_is_found(data):
    for length in range(0, len(data), 7):
        with pytest.raises(ValueError, match="`source`: the bytes given: (the LiteRT model is truncated|expected a LiteRT model)"):
            source, name = read_source(data[:length])
            read_file(source, name)


def test_damage_to_the_structure_is_one_error(data):
    rng, found = np.random.default_rng(0), 0
    for _ in range(300):
        bad = bytearray(data)
        for place in rng.integers(8, len(data), 8):
            bad[place] = rng.integers(0, 256)
        try:
            read_file(bytes(bad))
        except ValueError as error:
            found += 1
            assert "truncated or damaged" in str(error)
    assert found > 200


def test_sources(tmp_path, data):
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    assert read_source(path) == (data, str(path)) and read_source(bytearray(data))[0] == data
    with pytest.raises(FileNotFoundError, match="`source`: there is no file .*other.tflite"):
        read_source(tmp_path / "other.tflite")
    with pytest.raises(ValueError, match="which is a folder"):
        read_source(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="Received: an empty file"):
        read_source(path)
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ValueError, match="expected a LiteRT model .'TFL3' in its bytes 4 to 8.. Received: b' som'"):
        read_source(path)
