import keras
import numpy as np
import pytest

from kdfuse.compress.criteria.units import Material, UnitCriterion, check_integers, combined, read_values
from kdfuse.data import Data
from kdfuse.graph.channels import Channels
from kdfuse.graph.follow import follow

layers = keras.layers


def test_the_mean_over_layers_of_values_of_mean_one():
    channels = Channels()
    a, b = channels.new(2), channels.new(3)
    channels.unite(a, b[:2])
    pieces = [((0, "out"), a, np.array([1.0, 3])), ((1, "in"), np.repeat(b, 2), np.array([1, 1, 2, 2, 0, 0.0]))]
    found = combined(channels, pieces)
    np.testing.assert_allclose(found[:2], [(0.5 + 1) / 2, (1.5 + 2) / 2])
    assert found[4] == 0 and np.isnan(found[2])
    np.testing.assert_allclose(combined(channels, pieces[:1], power=0.5, normalize=False)[:2], [1, 3**0.5])


def test_what_kernels_read_is_after_norm_and_activation():
    i = keras.Input((4,))
    model = keras.Model(i, layers.Dense(2)(layers.Flatten()(layers.ReLU()(layers.Dense(3, name="a")(layers.Reshape((2, 2))(i))))))
    x = np.random.default_rng(0).normal(size=(10, 4)).astype("float32")
    channels = follow(model)
    data = Data(train=(x, np.zeros(10, int)), class_names=["a", "b"])
    found = list(read_values(Material(model, channels, data), 10, 0))
    assert [(member.path, slot, values.shape) for member, slot, _, values in found] == [
        ("a", "in", (2, 20)),
        (model.layers[-1].name, "in", (6, 10)),
    ]
    _, _, ids, values = found[1]
    assert channels.roots(ids).tolist() == [channels.roots(ids)[k] for k in (0, 1, 2)] * 2 and values.min() == 0


def test_the_family_itself_and_wrong_numbers_are_refused():
    with pytest.raises(TypeError, match="a family of criteria"):
        UnitCriterion().scores(None)
    for name, value in (("rows", 0), ("rows", 1.5), ("seed", -1), ("batch_size", True)):
        with pytest.raises(ValueError, match=f"`{name}`: expected an integer"):
            check_integers(**{name: value})
