import keras
import numpy as np
import pytest

from kdfuse.fitting.loan import output_layers, precision, weight_penalty


def model():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01))(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    return keras.Model(inputs, keras.layers.Dense(2, name="out")(hidden))


def test_the_penalty_is_half_l2_times_the_sum_of_squares_of_kernels_on_top_of_the_layers_own():
    net = model()
    kernels = [net.layers[1].kernel.numpy(), net.layers[3].kernel.numpy()]
    own = 0.01 * np.sum(kernels[0] ** 2)
    with weight_penalty(net, 0.1):
        lent = float(sum(net.losses))
    assert lent == pytest.approx(own + 0.05 * sum(np.sum(kernel**2) for kernel in kernels), rel=1e-5)
    assert float(sum(net.losses)) == pytest.approx(own, rel=1e-5)


def test_the_penalty_is_taken_back_when_training_fails():
    net = model()
    before = [weight.regularizer for weight in net.weights]
    with pytest.raises(RuntimeError), weight_penalty(net, 0.1):
        raise RuntimeError
    assert [weight.regularizer for weight in net.weights] == before


def test_mixed_precision_computes_in_half_keeps_float32_weights_and_outputs_and_goes_back():
    net, x = model(), np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    before = net.predict_on_batch(x)
    with precision(net, "mixed_bfloat16"):
        assert net.layers[1].compute_dtype == "bfloat16" and net.layers[3].compute_dtype == "float32"
        assert all(weight.dtype == "float32" for weight in net.weights)
        lent = net(x)
        assert lent.dtype == "float32" and not np.array_equal(lent, before)
        np.testing.assert_allclose(lent, before, atol=0.05)
    np.testing.assert_array_equal(net(x), before)
    assert net.layers[1].compute_dtype == "float32"


def test_output_layers_reach_into_nested_models():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="last")])
    inputs = keras.Input((3,))
    outer = keras.Model(inputs, inner(inputs))
    assert [layer.name for layer in output_layers(outer)] == ["last"]
