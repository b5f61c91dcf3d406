"""Criteria, targets and scope together: which weights stay, what is short, and the table."""

import keras
import numpy as np
import pytest

from kdfuse.compress.criteria.magnitude import Magnitude
from kdfuse.compress.criteria.threshold import Threshold
from kdfuse.compress.criteria.wanda import Wanda
from kdfuse.compress.kernels import find
from kdfuse.compress.layer_targets import resolve
from kdfuse.compress.masks import keep_count
from kdfuse.compress.patterns import Block, NofM
from kdfuse.compress.selection import Selection

layers = keras.layers


def net():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(8, 3, name="conv"), layers.Flatten(), layers.Dense(5, name="head")])
    model.layers[0].kernel.assign(model.layers[0].kernel * 3)
    return model


def selection(model, sparsity=0.75, pattern=None, settings=None, criterion=None, scope="layer", measured=None):
    chosen, spared = resolve(*find(model), settings, sparsity, pattern)
    kernels = [kernel for kernel, _ in chosen]
    made = Selection(kernels, [one for _, one in chosen], criterion or Magnitude(), scope, measured or [None] * len(kernels))
    return made, spared


def shares(made, share=float):
    return [float(1 - mask.mean()) for mask in made.masks(made.weights(), share)]


def test_each_layer_by_itself_or_all_together():
    model = net()
    assert shares(selection(model)[0]) == [0.75, 0.75]
    made, _ = selection(model, scope="global")
    masks, weights = made.masks(made.weights(), float), made.weights()
    joined = np.abs(np.concatenate([array.ravel() for array in weights]))
    threshold = np.sort(joined)[-keep_count(joined.size, 0.75)]
    assert all(np.array_equal(mask, np.abs(array) >= threshold) for mask, array in zip(masks, weights, strict=True))
    conv, head = shares(made)
    assert conv < 0.75 < head  # the larger weights of the convolution stay
    made, _ = selection(model, scope="global", settings={"conv": 0.5})
    assert shares(made) == [0.5, 0.75]


def test_each_output_by_itself():
    made, _ = selection(net(), scope="output")
    for kernel, mask in zip(made.kernels, made.masks(made.weights(), float), strict=True):
        kept = kernel.view(mask).reshape(-1, kernel.variable.shape[-1]).sum(0)
        assert len(set(kept)) == 1


def test_the_share_of_the_moment_is_asked_of_each_target():
    made, _ = selection(net(), 0.75, settings={"head": 0.5})
    assert shares(made, lambda final: final / 2) == [0.375, 0.25]


def test_patterns_on_convolutions_and_dense():
    model = net()
    made, _ = selection(model, None, NofM(2, 4))
    for kernel, mask in zip(made.kernels, made.masks(made.weights(), float), strict=True):
        assert (kernel.view(mask).reshape(kernel.view(mask).shape[0], -1, 4, kernel.variable.shape[-1]).sum(2) == 2).all()
    made, _ = selection(model, 0.75, Block(4, 1))
    for kernel, mask in zip(made.kernels, made.masks(made.weights(), float), strict=True):
        grouped = kernel.view(mask).reshape(kernel.view(mask).shape[0], -1, 4, kernel.variable.shape[-1]).sum(2)
        assert set(np.unique(grouped)) == {0, 4} and (grouped == 0).mean() == 0.75


def test_a_threshold_cuts_at_itself_and_a_layer_may_have_a_sparsity():
    model = net()
    made, _ = selection(model, None, settings={"head": 0.5}, criterion=Threshold(0.05))
    conv, head = made.masks(made.weights(), float)
    assert np.array_equal(conv, np.abs(model.layers[0].kernel.numpy()) >= np.float32(0.05)) and head.mean() == 0.5


def test_measured_norms_change_what_stays():
    model = net()
    heavy = np.ones((1, 4, 1), "float32")
    heavy[0, 2] = 100
    made, _ = selection(model, 0.7, settings={"head": None}, criterion=Wanda(), measured=[heavy])
    (mask,) = made.masks(made.weights(), float)
    assert mask[:, :, 2].all() and not mask[:, :, 0].all()


def test_what_is_zero_stays_zero_but_a_kernel_of_zeros_does_not_count():
    model = net()
    kernel = model.layers[0].kernel
    gone = np.random.default_rng(0).random(kernel.shape) < 0.9
    kernel.assign(np.where(gone, 0, kernel))
    model.layers[-1].kernel.assign(np.zeros(model.layers[-1].kernel.shape))
    for scope, pattern in (("layer", None), ("output", None), ("global", None), ("layer", Block(4, 1)), ("layer", NofM(2, 4))):
        made, _ = selection(model, None if isinstance(pattern, NofM) else 0.25, pattern, scope=scope)
        weights = [np.ones_like(array) for array in made.weights()]  # a step of the optimizer brought all back
        conv, head = made.masks(weights, float)
        assert not conv[gone].any() and head.any()


def test_short_tells_what_was_not_reached():
    model = net()
    for scope, pattern in (("layer", None), ("output", None), ("global", None), ("layer", Block(4, 1)), ("layer", NofM(2, 4))):
        made, _ = selection(model, None if isinstance(pattern, NofM) else 0.75, pattern, scope=scope)
        weights = made.weights()
        masked = [array * mask for array, mask in zip(weights, made.masks(weights, float), strict=True)]
        assert made.short(masked) == [] and made.short(weights)
        assert ("all kernels" if scope == "global" else "conv/kernel") in made.short(weights)[0]
        back = [masked[0], weights[1]]
        assert scope == "global" or len(made.short(back)) == 1


def test_the_table_has_every_weight():
    model = net()
    made, spared = selection(model, settings={"head": None})
    rows = made.table([np.zeros((3, 3, 4, 8))], spared)
    assert rows[0] == {"layer": "conv", "weight": "kernel", "weights": 288, "zeros": 288, "sparsity": 1.0, "target": 0.75,
                       "note": "all its weights are zero"}  # fmt: skip
    assert rows[1]["layer"] == "head" and "left out" in rows[1]["note"]
    texts = [selection(model, *given)[0].table([np.ones((3, 3, 4, 8)), np.ones((288, 5))])[0]["target"]
             for given in ((None, NofM(1, 4)), (0.75, Block(4, 2)), (None, None, None, Threshold(0.1)))]  # fmt: skip
    assert texts[:2] == ["1 of 4", "0.75 in blocks of 4 x 2"] and "0.1" in texts[2]
    assert made.sparsity([np.array([0.0, 1.0]), np.array([0.0, 0.0])]) == pytest.approx(0.75)
