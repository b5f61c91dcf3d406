import dataclasses

import keras
import numpy as np
import pytest

from kdfuse.compress.criteria.batch_norm_scale import BatchNormScale
from kdfuse.graph.follow import follow


def test_the_absolute_scale_as_it_is(of):
    np.testing.assert_allclose(of(BatchNormScale(), "conv"), [0.5, 2.0, 1.0, 0.1])
    assert np.isnan(of(BatchNormScale(), "dense")).all()


def test_a_model_without_scales_is_refused(material):
    i = keras.Input((4,))
    plain = keras.Model(i, keras.layers.Dense(2)(keras.layers.Dense(3)(i)))
    with pytest.raises(ValueError, match="BatchNormScale needs BatchNormalization layers"):
        BatchNormScale().scores(dataclasses.replace(material, model=plain, channels=follow(plain)))
