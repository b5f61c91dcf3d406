import keras
import numpy as np
import pytest
import tensorflow as tf

from kdfuse.compress.criteria.taylor import Taylor


def test_the_gate_form_is_the_gradient_of_a_factor_on_the_unit(material, of):
    """(sum g w)^2 over the incoming weights is (dL/dz)^2 of a factor z = 1 on what the unit gives before normalization."""
    model, (x, y) = material.model, (material.data.train.x, material.data.train.y)
    loss, layer, norm = keras.losses.SparseCategoricalCrossentropy(from_logits=True), model.get_layer("conv"), model.get_layer("norm")

    def gates(z_conv, z_norm):
        maps = norm(layer(x) * z_conv, training=False) * z_norm
        return loss(y, model.get_layer("head")(model.get_layer("dense")(keras.layers.Flatten()(keras.ops.relu(maps)))))

    ones = [tf.ones(4), tf.ones(4)]
    with tf.GradientTape() as tape:
        tape.watch(ones)
        value = gates(*ones)
    squares = [np.asarray(gradient) ** 2 for gradient in tape.gradient(value, ones)]
    expected = sum(one / one.mean() for one in squares) / 2
    np.testing.assert_allclose(of(Taylor(rows=40, batch_size=40), "conv"), expected, rtol=2e-3)


def test_the_weights_form_is_a_mean_over_batches(material, of):
    model, (x, y) = material.model, (material.data.train.x, material.data.train.y)
    dense, head = model.get_layer("dense"), model.get_layer("head")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    order, total = np.random.default_rng(0).permutation(40), 0.0
    for part in np.array_split(order, 2):
        part = np.sort(part)
        with tf.GradientTape() as tape:
            value = loss(y[part], model(x[part], training=False))
        kernel, bias = tape.gradient(value, [dense.kernel.value, dense.bias.value])
        total = total + (kernel.numpy() * dense.kernel.numpy()).__pow__(2).sum(0) + (bias.numpy() * dense.bias.numpy()) ** 2
    np.testing.assert_allclose(of(Taylor("weights", rows=40, batch_size=20), "dense"), total / total.mean(), rtol=2e-3)
    assert head.kernel.trainable


def test_frozen_layers_have_scores_and_settings_count(material, of):
    usual = of(Taylor(rows=20), "conv")
    for other in (Taylor(rows=40), Taylor(rows=20, seed=1), Taylor(rows=20, batch_size=5), Taylor("weights", rows=20)):
        assert not np.allclose(usual, of(other, "conv"))
    material.model.get_layer("conv").trainable = False
    np.testing.assert_allclose(of(Taylor(rows=20), "conv"), usual, rtol=1e-4)
    for wrong in ({"form": "gates"}, {"rows": 0}, {"batch_size": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
            Taylor(**wrong)
