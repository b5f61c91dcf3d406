"""The layers of a mixture of experts against NumPy, their files."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.ensemble.mixed.gating import GatedSum, Inference, TopKGate, variation
from kdfuse.ensemble.mixed.side_by_side import SideBySide
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import to_litert

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype("float32")
L = keras.layers


def softmax_over(logits, k):
    """Shazeer et al., equations 3 and 5: all but the k largest are minus infinity."""
    kept = np.full(logits.shape, -np.inf)
    for row, values in enumerate(logits.astype("float64")):
        places = np.argsort(-values, kind="stable")[:k]
        kept[row, places] = values[places]
    grown = np.exp(kept - kept.max(1, keepdims=True))
    return grown / grown.sum(1, keepdims=True)


def penalty(weights):
    """Equation 7: the squared coefficient of variation of the sums over the batch."""
    importance = weights.sum(0)
    return (importance.std() / importance.mean()) ** 2


@pytest.mark.parametrize("k", [None, 1, 2, 3, 4])
def test_weights_are_a_softmax_over_the_largest_logits(k):
    weights = np.asarray(TopKGate(k)(LOGITS))
    np.testing.assert_allclose(weights, softmax_over(LOGITS, k or 4), rtol=1e-5)
    assert ((weights > 0).sum(1) == (k or 4)).all()
    assert (np.asarray(TopKGate(2)(np.zeros((3, 4), "float32"))) > 0).sum() == 6


def test_balance_and_its_gradient():
    for k in (None, 2):
        gate, value = TopKGate(k, balance=0.3), tf.Variable(LOGITS)
        with tf.GradientTape() as tape:
            gate(value, training=True)
            loss = gate.losses[0]
        assert float(loss) == pytest.approx(0.3 * penalty(softmax_over(LOGITS, k or 4)), rel=1e-4)
        gradient, step = tape.gradient(loss, value).numpy(), 1e-4
        for row, column in ((0, 0), (2, 3), (5, 1)):
            moved = np.zeros(LOGITS.shape)
            moved[row, column] = step
            slope = (penalty(softmax_over(LOGITS + moved, k or 4)) - penalty(softmax_over(LOGITS - moved, k or 4))) / (2 * step)
            assert gradient[row, column] == pytest.approx(0.3 * slope, rel=2e-2, abs=1e-5)
        gate(LOGITS, training=False)
        assert not gate.losses and float(variation(np.ones(5, "float32"))) == 0


def test_the_gradient_flows_to_the_logits_of_the_chosen_alone():
    value = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(TopKGate(2)(value) * RNG.normal(size=LOGITS.shape).astype("float32"))
    gradient, chosen = tape.gradient(loss, value).numpy(), softmax_over(LOGITS, 2) > 0
    assert (gradient[~chosen] == 0).all() and (np.abs(gradient[chosen]) > 0).all()


@pytest.mark.parametrize("shape", [(6, 3), (6, 2, 3)])
def test_the_sum(shape):
    members = RNG.normal(size=(4, *shape)).astype("float32")
    weights = softmax_over(LOGITS, 4).astype("float32")
    expected = np.einsum("rm,mr...->r...", weights, members)
    layer = GatedSum()
    np.testing.assert_allclose(layer([weights, *members]), expected, rtol=1e-4, atol=1e-6)
    assert layer.compute_output_shape([(None, 4), (None, *shape[1:])]) == (None, *shape[1:])


def model():
    given = keras.Input((3, 2))
    experts = [keras.Sequential([keras.Input((3, 2)), L.Flatten(), L.BatchNormalization(), L.Dropout(0.5), L.Dense(4)]) for _ in range(3)]
    weights = TopKGate(2, 0.1)(L.Dense(3)(SideBySide()([given, L.GlobalAveragePooling1D()(given)])))
    return keras.Model(given, GatedSum()([weights, *(Inference(one)(given) for one in experts)]))


def test_inference_stays_inference_in_training():
    made, x = model(), RNG.normal(size=(5, 3, 2)).astype("float32")
    before = [np.array(value) for layer in made.layers if isinstance(layer, Inference) for value in layer.non_trainable_variables]
    np.testing.assert_array_equal(made(x, training=True), made(x, training=False))
    after = [np.array(value) for layer in made.layers if isinstance(layer, Inference) for value in layer.non_trainable_variables]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_files(tmp_path):
    made, x = model(), RNG.normal(size=(5, 3, 2)).astype("float32")
    made.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", x)
    code = "import kdfuse, keras, numpy as np; np.save('y.npy', keras.models.load_model('m.keras')(np.load('x.npy')))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), made(x))
    (tmp_path / "m.tflite").write_bytes(to_litert(made))
    np.testing.assert_allclose(LiteModel(tmp_path / "m.tflite")(x), made(x), atol=1e-5)
