import keras
import numpy as np

from kdfuse.compress.criteria.apoz import APoZ


def test_one_minus_the_average_percentage_of_zeros(material, of):
    inner = keras.Model(material.model.input, [material.model.layers[3].output, material.model.get_layer("dense").output])
    maps, dense = (np.asarray(one) for one in inner(material.data.train.x))
    np.testing.assert_allclose(of(APoZ(), "conv"), 1 - (maps == 0).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(of(APoZ(), "dense"), (dense > 0).mean(0), rtol=1e-6)


def test_rows_and_seed_count(of):
    few = [of(APoZ(rows=rows, seed=seed), "conv") for rows, seed in ((10, 0), (10, 1), (40, 0))]
    assert not np.allclose(few[0], few[1]) and not np.allclose(few[0], few[2])
