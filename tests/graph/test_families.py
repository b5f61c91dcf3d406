import keras

from kdfuse.graph.families import families
from kdfuse.graph.follow import follow

layers = keras.layers


def test_channels_of_the_same_layers_are_a_family():
    i = keras.Input((4, 4, 3))
    a, b = layers.Conv2D(4, 1, name="a")(i), layers.Conv2D(6, 1, name="b")(i)
    c = layers.Conv2D(10, 1, name="c")(layers.Concatenate()([a, b]))
    x = layers.Add()([layers.Concatenate()([a, b]), c])
    found = families(follow(keras.Model(i, layers.Conv2D(2, 1)(x))))
    assert [(family.layers, len(family.roots)) for family in found] == [(("a", "c"), 4), (("b", "c"), 6)]
    assert len({family.tied for family in found}) == 2


def test_the_groups_of_a_convolution_are_tied():
    i = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1, groups=2, name="b")(layers.Conv2D(8, 1, name="a")(i))
    found = families(follow(keras.Model(i, layers.Conv2D(2, 1)(x))))
    assert [(family.layers, len(family.roots)) for family in found] == [(("a",), 4), (("a",), 4), (("b",), 3), (("b",), 3)]
    assert found[0].tied == found[1].tied != found[2].tied == found[3].tied


def test_groups_that_do_not_match_are_united():
    i = keras.Input((4, 4, 3))
    x = layers.Concatenate()([layers.Conv2D(8, 1, name="a")(i), layers.Conv2D(4, 1, name="b")(i)])
    found = families(follow(keras.Model(i, layers.Conv2D(2, 1)(layers.Conv2D(6, 1, groups=2, name="c")(x)))))
    assert sum(len(family.roots) for family in found if set(family.layers) <= {"a", "b"}) == 6  # places 0 to 5 of both groups


def test_protected_channels_are_in_none():
    i = keras.Input((4,))
    model = keras.Model(i, layers.Dense(2)(layers.Dense(5, name="b")(layers.Dense(6, name="a")(i))))
    assert [family.layers for family in families(follow(model, ("a",)))] == [("b",)]
