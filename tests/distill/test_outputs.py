"""From outputs to logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.distill.outputs import like, logits_of, masks_of


def test_keras_leaves_the_logits_at_a_softmax() -> None:
    """What `logits_of` rests on; were it gone, saturated probabilities would lose their logits."""
    for activation in ("softmax", "sigmoid"):
        z = np.float32([[200.0, 0.0], [-150.0, 150.0]])
        outputs = keras.layers.Activation(activation)(z)
        exact = z if activation == "softmax" else np.stack([np.zeros_like(z), z], -1)
        np.testing.assert_array_equal(logits_of(outputs, activation), exact)


def test_probabilities_without_their_logits() -> None:
    z = np.float32([[2.0, -1.0, 0.5]])
    p = np.exp(z) / np.exp(z).sum()
    np.testing.assert_allclose(logits_of(tf.constant(p), "softmax"), np.log(p), rtol=1e-6)
    column = tf.constant(1 / (1 + np.exp(-z[:, :1])))
    np.testing.assert_allclose(logits_of(column, "sigmoid"), [[0, 2]], rtol=1e-5)


def test_structures() -> None:
    one, other = tf.constant([[1.0, 2.0]]), tf.constant([[3.0]])
    other._keras_mask = tf.constant([True])
    made = logits_of({"b": one, "a": other}, {"a": "regression", "b": "logits"})
    assert list(made) == ["b", "a"] and np.array_equal(made["b"], one) and np.array_equal(made["a"], other)
    assert masks_of([one, other])[0] is None and masks_of([one, other])[1] is other._keras_mask
    assert like({"b": 0, "a": (0, 0)}, [1, 2, 3]) == {"b": 1, "a": [2, 3]}
    with pytest.raises(ValueError, match="head: expected one for each output, 2 in all"):
        logits_of([one, other], "logits")
