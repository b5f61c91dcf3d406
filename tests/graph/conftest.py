"""What the tests of channels share: weights that hide nothing, and the oracle."""

import keras
import numpy as np
import pytest

from kdfuse.graph.copy import copy_model
from kdfuse.graph.families import families
from kdfuse.graph.follow import follow
from kdfuse.graph.rebuild import count_parameters, rebuild, silence_channels


def outputs(model, x):
    return [np.asarray(one) for one in keras.tree.flatten(model(x, training=False))]


def scrambled(model, seed=0):
    """The model with random biases, scales and statistics: after zeros and ones, errors would not show."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        name, shape = weight.path.split("/")[-1], tuple(weight.shape)
        if name in ("gamma", "moving_variance", "variance"):
            weight.assign(rng.uniform(0.5, 1.5, shape))
        elif name in ("beta", "bias", "moving_mean", "mean", "alpha"):
            weight.assign(rng.normal(0, 0.3, shape))
    return model


class Oracle:
    """Removes units by lot and compares with the whole model whose readers' weights for them are 0."""

    def __call__(self, model, x, keep=0.5, protect=(), seed=0):
        scrambled(model)
        before = [weight.numpy().copy() for weight in model.weights]
        channels = follow(model, protect)
        rng, counts, gone = np.random.default_rng(seed), {}, []
        for family in families(channels):
            count = counts.setdefault(family.tied, max(1, round(keep * len(family.roots))))
            gone += rng.permutation(family.roots)[count:].tolist()
        small = rebuild(model, channels, gone).model
        assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))
        assert small.count_params() == count_parameters(model, channels, gone)
        whole, masked = outputs(model, x), copy_model(model)
        silence_channels(masked, follow(masked, protect), gone)
        expected, given = outputs(masked, x), outputs(small, x)
        scale = max(np.abs(one).max() for one in expected)
        assert max(np.abs(a - b).max() for a, b in zip(expected, given, strict=True)) <= 1e-5 * scale
        assert not gone or max(np.abs(a - b).max() for a, b in zip(expected, whole, strict=True)) > 1e-3 * scale
        self.channels, self.gone = channels, gone
        return small


@pytest.fixture
def oracle():
    return Oracle()
