"""Settings by layer's name, and what is refused."""

import keras
import pytest

from kdfuse.compress.kernels import find
from kdfuse.compress.layer_targets import check_layers, fits, resolve
from kdfuse.compress.patterns import Block, NofM

layers = keras.layers


@pytest.fixture(scope="module")
def found():
    trunk = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, name="conv1"), layers.BatchNormalization(name="norm")], name="trunk"
    )
    inputs = keras.Input((8, 8, 1))
    x = layers.DepthwiseConv2D(3, name="depth")(trunk(inputs))
    x = layers.Conv2D(4, 3, name="conv2")(x)
    return find(keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x))))


def of(found, settings, sparsity=0.9, pattern=None):
    chosen, spared = resolve(*found, settings, sparsity, pattern)
    return {kernel.layer: target for kernel, target in chosen}, {one.layer: one.why for one in spared}


def test_names_patterns_and_what_holds_a_layer(found):
    chosen, spared = of(found, {"conv*": 0.5, "conv2": 0.7, "head": None})
    assert {path: target.sparsity for path, target in chosen.items()} == {"trunk/conv1": 0.5, "conv2": 0.7}
    assert (
        "left out by layers={'head': None}" in spared["head"] and "depthwise" in spared["depth"] and spared["trunk/norm"] == "normalisation"
    )
    chosen, _ = of(found, {"trunk": None})
    assert set(chosen) == {"conv2", "head"} and not chosen["head"].own
    chosen, _ = of(found, {"trunk/conv1": 0.2, "depth": 0.4, "trunk/norm": None})
    assert chosen["trunk/conv1"].sparsity == 0.2 and chosen["depth"].sparsity == 0.4 and chosen["depth"].own
    assert "depth" not in of(found, {"d*": 0.4, "conv1": 0.3})[0]  # a pattern asks for no depthwise kernel


def test_patterns_of_sparsity_by_layer(found):
    chosen, _ = of(found, {"conv2": NofM(1, 4), "head": Block(4, 1)})
    assert isinstance(chosen["conv2"].pattern, NofM) and chosen["conv2"].sparsity is None
    assert isinstance(chosen["head"].pattern, Block) and chosen["head"].sparsity == 0.9
    chosen, _ = of(found, {"conv1": 0.5, "depth": None}, None, NofM(2, 4))
    assert chosen["trunk/conv1"].pattern is None and chosen["conv2"].sparsity is None and isinstance(chosen["head"].pattern, NofM)


def test_fits():
    assert all(fits(name, "trunk/block/conv1") for name in ("trunk", "conv1", "block/conv1", "trunk/block", "conv?", "trunk/*", "*"))
    assert not any(fits(name, "trunk/block/conv1") for name in ("conv", "trunk/conv1", "conv2*", "runk"))


REFUSED = {
    "unknown": ({"conv3": 0.5}, "no layer with weights is called 'conv3'. Did you mean 'conv"),
    "unknown pattern": ({"dense*": None}, r"no layer with weights is called 'dense\*'"),
    "no kernel": ({"norm": 0.5}, r"'norm' has no kernel that can be pruned \(normalisation\)"),
    "nothing left": ({"*": None}, "`model`: nothing to prune"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case, found):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        of(found, settings)


def test_a_kernel_that_cannot_have_the_pattern_is_named(found):
    with pytest.raises(ValueError, match=r"`pattern`: 'trunk/conv1' reads 1 input, and 2 of 4 leaves all.*layers=\{'trunk/conv1': None\}"):
        of(found, None, None, NofM(2, 4))
    with pytest.raises(ValueError, match="'head' has blocks, and no sparsity"):
        of(found, {"head": Block(4, 1), "conv1": None}, None, NofM(2, 4))


@pytest.mark.parametrize(
    ("value", "error"),
    [([], TypeError), ({3: 0.5}, TypeError), ({"a": 1.0}, ValueError), ({"a": "x"}, ValueError), ({"a": True}, ValueError)],
)
def test_layers_is_a_dict_of_shares_and_patterns(value, error):
    with pytest.raises(error, match="`layers`"):
        check_layers(value)
    check_layers({"a": None, "b": 0, "c": NofM(), "d": Block()})
