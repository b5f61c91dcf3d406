import pickle

import keras
import numpy as np
import pytest

from kdfuse.export.lite_model import LiteModel
from kdfuse.export.lite_trust import unsealed
from kdfuse.export.litert import to_litert

layers = keras.layers
RNG = np.random.default_rng(0)
A, B = RNG.random((5, 4), "float32"), RNG.random((5, 3), "float32")


def two_inputs(kind):
    a, b = keras.Input((4,), name="zeta"), keras.Input((3,), name="alpha")
    joined = layers.Concatenate()([a, b])
    outputs = [layers.Dense(units)(joined) for units in range(1, 13)]
    if kind is list:
        return keras.Model([a, b], [*outputs, outputs[0]]), [A, B]
    return keras.Model({"zeta": a, "alpha": b}, {"z": outputs[1], "y": outputs[2]}), {"zeta": A, "alpha": B}


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_structures_go_in_and_come_out_as_they_were(kind, quantize):
    model, x = two_inputs(kind)
    lite = LiteModel(to_litert(model, quantize=quantize, representative=x))
    expected, found = model(x), lite(x)
    assert type(found) is kind and len(found) == len(expected)
    assert [tensor.name for tensor in lite.inputs] == (["zeta", "alpha"] if kind is list else ["alpha", "zeta"])
    tolerance = 1e-6 if quantize is None else 0.05
    for key in range(len(expected)) if kind is list else expected:
        np.testing.assert_allclose(found[key], expected[key], atol=tolerance)
    # By name also where the model takes a list.
    other = lite({"alpha": B, "zeta": A})
    for one, two in zip(keras.tree.flatten(found), keras.tree.flatten(other), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,), name="x"), layers.Dense(8, activation="relu"), layers.Dense(3)])


def test_integer_inputs_and_outputs_are_converted(model):
    lite = LiteModel(to_litert(model, quantize="int8", representative=A, integer_io=True))
    assert lite.inputs[0].dtype == lite.outputs[0].dtype == "int8"
    found = lite(A)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model(A), atol=0.02)
    assert np.isfinite(lite(A * 1e6)).all()


def test_any_number_of_rows(model, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(to_litert(model, batch_size=2))
    fixed, lite = LiteModel(path), LiteModel(to_litert(model), threads=2)
    for rows in (1, 5, 2, 7):
        x = RNG.random((rows, 4), "float32")
        np.testing.assert_allclose(lite(x), model(x), atol=1e-6)
        np.testing.assert_allclose(fixed(x), model(x), atol=1e-6)
    assert fixed.bytes == path.stat().st_size and fixed.data == path.read_bytes() and str(path) in repr(fixed)
    twin = pickle.loads(pickle.dumps(lite))
    np.testing.assert_array_equal(twin(A), lite(A))


def test_outputs_are_the_callers_own(model):
    lite = LiteModel(to_litert(model))
    first = lite(A[:1])
    kept = first.copy()
    lite(A[1:2])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (np.zeros((2, 5), "float32"), r"expected 'x' of shape \('any', 4\). Received: \(2, 5\)"),
        (np.zeros(4, "float32"), r"expected 'x' of shape"),
        (np.zeros((0, 4), "float32"), r"expected 'x' of shape"),
        ([A, A], "expected 1 array: .'x'.. Received: 2"),
    ],
)
def test_inputs_that_do_not_fit(model, given, problem):
    with pytest.raises(ValueError, match=problem):
        LiteModel(to_litert(model))(given)


@pytest.mark.parametrize("threads", [0, True, 1.5])
def test_threads(model, threads):
    with pytest.raises(ValueError, match="`threads`: expected an integer of at least 1"):
        LiteModel(to_litert(model), threads=threads)


def damaged(data, seed):
    rng, bad = np.random.default_rng(seed), bytearray(data)
    for place in rng.integers(8, len(bad), 3):
        bad[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(bad)


def test_a_damaged_file_is_one_clear_error_whoever_wrote_it(model):
    data = to_litert(model, quantize="int8", representative=A)
    for seed in range(20):
        with pytest.raises(ValueError, match="`source`: the bytes given: .* is truncated or damaged"):
            LiteModel(damaged(data, seed))
    refused = 0
    for seed in range(3):  # of a file without a checksum: whatever happens, this process lives on
        try:
            LiteModel(damaged(unsealed(data), seed))(A)
        except ValueError as error:
            refused += 1
            assert str(error).startswith("`")
    assert refused


def test_what_is_timed_is_the_interpreter_alone(model):
    for batch_size in (None, 2):
        lite = LiteModel(to_litert(model, batch_size=batch_size))
        call = lite.prepare(A[:1])
        assert call() is None and call == lite._interpreter.invoke
        np.testing.assert_allclose(lite(A), model(A), atol=1e-6)
    with pytest.raises(ValueError, match="expected 'x' of shape"):
        lite.prepare(B)
