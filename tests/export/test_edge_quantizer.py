import keras
import numpy as np
import pytest

from kdfuse.export.edge_quantizer import calibrate, requantize, weighted_operations
from kdfuse.export.lite_file import read_file
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.lite_trust import is_whole
from kdfuse.export.litert import to_litert

layers = keras.layers


@pytest.fixture(scope="module")
def made():
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((8, 8, 1), name="zeta"), keras.Input((4,), name="alpha")]
    x = layers.Flatten()(layers.Conv2D(16, 3, activation="relu")(inputs[0]))
    x = layers.Dense(32, activation="relu")(layers.Concatenate()([x, inputs[1]]))
    model = keras.Model(inputs, [layers.Dense(3)(x), layers.Dense(2)(x)])
    rng = np.random.default_rng(0)
    rows = [rng.random((20, 8, 8, 1), "float32"), rng.random((20, 4), "float32")]
    data = to_litert(model)
    return model, rows, data, calibrate(data, rows)


def test_bits_are_set_operation_by_operation(made, capfd):
    model, rows, data, ranges = made
    names = {one.outputs[0].name: one.name for one in weighted_operations(data)}
    assert sorted(names.values()) == ["CONV_2D", "FULLY_CONNECTED", "FULLY_CONNECTED", "FULLY_CONNECTED"]
    big = next(one.outputs[0].name for one in weighted_operations(data) if any(part.shape[-1] > 500 for part in one.inputs))
    errors, sizes = [], []
    for bits in (32, 8, 4):
        made_bytes = requantize(data, {big: bits}, ranges)
        assert is_whole(made_bytes)
        (dense,) = [
            one for one in read_file(made_bytes).operations if any(part.shape[-1:] == (580,) and part.constant for part in one.inputs)
        ]
        weight = next(part for part in dense.inputs if part.constant and len(part.shape) == 2)
        assert weight.dtype == {32: "float32", 8: "int8", 4: "int4"}[bits]
        lite = LiteModel(made_bytes)
        assert [tensor.name for tensor in lite.inputs] == ["zeta", "alpha"]
        found = lite(rows)
        errors.append(max(np.abs(one - other.numpy()).max() for one, other in zip(found, model(rows), strict=True)))
        sizes.append(lite.bytes)
    assert errors[0] < 0.02 and errors[2] > errors[1] and sizes[0] > sizes[1] > sizes[2]
    assert capfd.readouterr() == ("", "")


def test_ranges_are_the_least_and_greatest_of_all_rows(made):
    model, rows, data, ranges = made
    many = calibrate(data, [np.concatenate([one] * 3) for one in rows])  # more than one part
    output = model(rows)[0].numpy()
    for found in (ranges, many):
        spans = [(float(np.min(one["min"])), float(np.max(one["max"]))) for one in found.values()]
        assert any(np.allclose(span, (output.min(), output.max()), atol=1e-5) for span in spans)
    file = read_file(requantize(data, {}, ranges))
    assert {tensor.dtype for tensor in (*file.inputs, *file.outputs)} == {"float32"} and file.integer_share == 1.0


def test_what_the_quantizer_refuses_is_one_error(made):
    _, _, data, _ = made
    with pytest.raises(ValueError, match="`data`: ai-edge-quantizer cannot quantize the model: .*Use kind='int8' or kind='dynamic'"):
        requantize(data, {}, None)
