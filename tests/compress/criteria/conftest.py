"""A small convolutional net with everything that criteria look at, and its channels."""

import keras
import numpy as np
import pytest

from kdfuse.compress.criteria.units import Material
from kdfuse.data import Data
from kdfuse.graph.follow import follow

layers = keras.layers


@pytest.fixture
def material():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    i = keras.Input((5, 5, 2))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(i))
    x = layers.Flatten()(layers.ReLU()(x))
    model = keras.Model(i, layers.Dense(3, name="head")(layers.Dense(6, "tanh", name="dense")(x)))
    model.get_layer("norm").gamma.assign([0.5, -2.0, 1.0, 0.1])
    model.get_layer("norm").beta.assign([0.5, -1.0, 0.2, -0.1])
    x, y = rng.normal(size=(40, 5, 5, 2)).astype("float32"), rng.integers(0, 3, 40)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return Material(model, follow(model), Data(train=(x, y)))


@pytest.fixture
def of(material):
    """The scores of a layer's units."""
    slots = {member.path: member.slots["out"] for member in material.channels.members.values() if "out" in member.slots}

    def scores(criterion, layer):
        return criterion.scores(material)[material.channels.roots(slots[layer])]

    return scores
