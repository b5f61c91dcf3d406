import keras
import numpy as np

from kdfuse.compress.criteria.activation import ActivationImportance


def test_the_share_of_the_summed_relu_activation(material, of):
    inner = keras.Model(material.model.input, [material.model.layers[3].output, material.model.get_layer("dense").output])
    maps, dense = (np.asarray(one) for one in inner(material.data.train.x))
    for values, layer in ((np.maximum(maps, 0).sum((0, 1, 2)), "conv"), (np.maximum(dense, 0).sum(0), "dense")):
        share = values / values.sum()
        np.testing.assert_allclose(of(ActivationImportance(), layer) / len(share), share, rtol=1e-5)


def test_rows_and_seed_count(of):
    few = [of(ActivationImportance(rows=rows, seed=seed), "conv") for rows, seed in ((10, 0), (10, 1), (40, 0))]
    assert not np.allclose(few[0], few[1]) and not np.allclose(few[0], few[2])
